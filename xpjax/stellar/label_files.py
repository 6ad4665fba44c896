"""Labels of files: of XP coefficients, of stores, and of sampled spectra."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import concatenate_records
from xpjax.core.release import DR3, Release, find_release, other_release
from xpjax.io.atomic import expanded
from xpjax.io.columns import join_columns
from xpjax.io.streams import plain_suffix
from xpjax.io.tables import open_table
from xpjax.stellar.fitter import LabelFitter
from xpjax.stellar.priors import columns_of
from xpjax.stellar.results import LabelFits
from xpjax.xp import SourceTable, Spectra, is_store, open_store, read, read_for, read_spectra

FileProgress = Callable[[Path, int, int], None]
"""Called with a file, how many of its sources are done, and how many it has."""


def fit_label_files(
    inputs: Sequence[str | Path | SourceTable] | str | Path | SourceTable,
    fitter: LabelFitter,
    *,
    keep: Sequence[str] = (),
    accept_sampled: bool = False,
    devices: Devices = None,
    progress: FileProgress | None = None,
    release: Release | str | None = None,
) -> LabelFits:
    """Fit stellar labels to the sources of files.

    Parameters
    ----------
    inputs : path, SourceTable, or sequence of these
        Files of XP coefficients, stores, or files of sampled spectra; or sources, as `xpjax.fetch` gives them.
    fitter : LabelFitter
        How labels are fitted.
    keep : sequence of str, optional
        Columns of the inputs to pass on, to `LabelFits.columns`.
    accept_sampled : bool, optional
        Fit sampled spectra as they are although the fitter has a correction, which is for coefficients.
    devices : optional
        Devices, see `xpjax.core.engine.find_devices`.
    progress : callable, optional
        Called with a file (or where a table is from), the number of its sources that are done, and that of all.
    release : Release or str, optional
        The data release of the inputs, such as "Gaia DR4"; by default the first one tells. Of a store of several, the
        one to take.

    Returns
    -------
    LabelFits
        Labels of the n sources of all inputs, in order; the column of E(B-V) [mag] that they were freed from is passed
        on too.

    Raises
    ------
    XpjaxError
        If an input lacks columns, is of another release than the first or the correction, or holds sampled spectra and
        the fitter has a correction.

    Examples
    --------
    >>> x, teff = np.arange(340.0, 1010.0, 10.0), np.array([4000.0, 6000.0])
    >>> grid = xpjax.stellar.StellarGrid((teff,), 1 - (x - 670) / teff[:, None], x, ("teff",))
    >>> fitter = xpjax.stellar.LabelFitter(grid, error_floor=0.02)
    >>> fits = xpjax.stellar.fit_label_files("xp.parquet", fitter, keep=["ra"])
    >>> len(fits), list(fits.columns)
    (50, ['ra'])
    """
    items = [inputs] if isinstance(inputs, str | Path | SourceTable) else inputs
    needed = [*dict.fromkeys([*keep, *fitter.columns])]
    passed = [*dict.fromkeys([*keep, *columns_of(fitter.ebv)])]
    parts: list[LabelFits] = []
    wanted = None if release is None else find_release(release)
    for item in items:
        path = Path(item.origin) if isinstance(item, SourceTable) else expanded(item)
        given, whole = (item, True) if isinstance(item, SourceTable) else (path, not _is_store(path))
        for table in _sources(given, needed, np.float64 if fitter.float64 else np.float32, wanted, release is not None):
            wanted = _same_release(fitter, table, wanted, path)
            if isinstance(table, Spectra):
                fits = _fit_sampled(fitter, table, path.name, [*needed, *passed], accept_sampled, devices)
            else:
                told = None
                if progress is not None and whole:
                    told = functools.partial(_tell, progress, path, len(table))
                    told(0)
                fits = fitter(table, devices=devices, progress=told)
            columns = {**fits.columns, **{name: table.columns[name] for name in passed}}
            parts.append(dataclasses.replace(fits, columns=columns))
    return concatenate_records(parts, _join)


def _same_release(fitter: LabelFitter, table: SourceTable | Spectra, wanted: Release | None, path: Path) -> Release:
    """The release of all inputs. Raises XpjaxError for one of another release, or that the fitter is not for."""
    if wanted is not None and not table.release.fits(wanted):
        raise other_release(path, table.release, wanted)
    if isinstance(table, SourceTable):
        fitter.check(table.release)
    return table.release


def _tell(progress: FileProgress, path: Path, of: int, done: int) -> None:
    progress(path, done, of)


def _join(values: Sequence[np.ndarray]) -> np.ndarray:
    """Columns of several inputs as one; of other kinds than each other, digits and text are kept."""
    if len({value.dtype.kind for value in values}) == 1:
        return np.concatenate(values)
    return join_columns(values, [len(value) for value in values])


def _is_store(path: Path) -> bool:
    return path.is_dir() or is_store(path)


def _sources(path: Path | SourceTable, needed: list[str], dtype: Any, release: Release | None, said: bool) -> Any:
    """The sources of an input: of a store file by file, or spectra where a file holds these."""
    if isinstance(path, SourceTable):
        yield read(path, dtype=dtype, keep=needed, release=release)
        return
    if _is_store(path):
        store = open_store(path, release)
        store.release  # noqa: B018  # refuses several
        for file in store.files:
            _check_columns(path, needed, store.columns)
            yield file.read(errors=True, correlations=True, columns=needed)
        return
    if plain_suffix(path) in (".h5", ".hdf5", ".parquet", ".fits"):
        names = open_table(path).names
        if "flux" in names and not any(f"{xp}_coefficients" in names for xp in DR3.xp):
            yield read_spectra(path)
            return
    yield read_for(path, release, dtype, needed, said=said)


def _check_columns(path: Any, names: Sequence[str], columns: Any) -> None:
    absent = [name for name in dict.fromkeys(names) if name not in columns]
    if absent:
        raise XpjaxError(f"{path} has no columns {', '.join(absent)}; it has {', '.join(columns)}")


def _fit_sampled(
    fitter: LabelFitter, made: Spectra, name: str, needed: list[str], accepted: bool, devices: Devices
) -> LabelFits:
    if not (accepted or fitter.implied) and (fitter.linear is not None or fitter.network is not None):
        remedy = say(
            "correct them with xpjax.wiggles.correct_spectra, and take a fitter without a correction",
            "make them with `xpjax spectra --correction`, or correct them with `xpjax wiggles correct`, and leave "
            "--correction out here",
        )
        raise XpjaxError(f"{name} holds sampled spectra, which are taken as they are: {remedy}")
    if made.internal:
        raise XpjaxError(f"{name} holds internal spectra; labels are fitted to absolute ones (no --internal)")
    _check_columns(name, needed, made.columns)
    return fitter.fit(made, origin=name, devices=devices)
