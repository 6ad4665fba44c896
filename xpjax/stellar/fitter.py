"""Labels of XP sources: sample their spectra, fit, and with a network correct and fit again (Ye et al. 2024)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import concatenate_records
from xpjax.core.release import DR3, Release, find_release, other_release
from xpjax.core.status import Status
from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.io.atomic import expanded
from xpjax.io.columns import join_columns
from xpjax.io.streams import plain_suffix
from xpjax.io.tables import open_table
from xpjax.stellar.chi2 import Noise, Reach
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.grid_file import SHIPPED, grid_digest, read_grid
from xpjax.stellar.interpolation import Interpolator, interpolate_grid, interpolate_spectra, redden
from xpjax.stellar.results import LabelFits, StellarFit
from xpjax.wiggles import (
    NetworkCorrection,
    check_network,
    choose_correction,
    correct_spectra,
    floats,
    is_network,
    linear_and_network,
)
from xpjax.xp import (
    TRANSIT,
    LinearCorrection,
    Sampler,
    SourceTable,
    Spectra,
    XPCoefficients,
    is_store,
    load_instrument,
    open_store,
    read,
    read_for,
    read_spectra,
)

ROWS = 32_768
"""Sources whose spectra are held at a time."""


@dataclasses.dataclass(frozen=True)
class LabelFitter:
    """Fit stellar labels to XP sources.

    Parameters
    ----------
    model : StellarGrid, path, str or Interpolator, optional
        The grid of models, from memory, a file, or by its name: "ck04", which xpjax ships, is the default.
    correction : str, path, LinearCorrection or NetworkCorrection, optional
        Linear correction of the spectra, which are then seen at XP's resolution, as the grid is; or a network, which
        corrects the spectra between two fits, the first of which says which stars are too hot or too metal-poor for it.
    ebv : str, optional
        Name of the column of E(B-V) [mag] that spectra are freed from; by default they are taken as they are.
    fit_ebv : (n,) array, optional
        Nodes of E(B-V) [mag]: E(B-V) is fitted as a label of its own, instead of ebv.
    truncate : bool, optional
        Use the relevant coefficients (n_relevant_bases) only.
    covariance : bool, optional
        Whether chi2 has the correlations between samples; they need an error_floor.
    error_floor : float, optional
        Fraction of the flux that is added to the errors in quadrature.
    options : mapping, optional
        More arguments of `fit_labels`: normalization, continuum_order, priors, starts, law.
    float64 : bool, optional
        Compute in float64.
    about : mapping, optional
        Metadata of the labels; by default the grid's name and digest.

    Raises
    ------
    XpjaxError
        If the network is for other spectra, the grid holds XP coefficients, or both ebv and fit_ebv are given.

    Examples
    --------
    >>> x, teff = np.arange(340.0, 1010.0, 10.0), np.array([4000.0, 6000.0])
    >>> grid = xpjax.stellar.StellarGrid((teff,), 1 - (x - 670) / teff[:, None], x, ("teff",))
    >>> fitter = xpjax.stellar.LabelFitter(grid, error_floor=0.02)
    >>> fitter(xpjax.simulate_sources(1, seed=1)).fit.labels.shape
    (1, 1)
    """

    model: Any = SHIPPED
    correction: Any = None
    ebv: str | None = None
    fit_ebv: Any = None
    truncate: bool = True
    covariance: bool = False
    error_floor: float = 0.0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    float64: bool = False
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ebv is not None and self.fit_ebv is not None:
            one, other = say("ebv", "--ebv"), say("fit_ebv", "--fit-ebv")
            raise XpjaxError(f"{one} takes the reddening off, {other} fits it: choose one")
        if isinstance(self.correction, str | Path):
            ebv = self.ebv if is_network(self.correction) else None
            object.__setattr__(self, "correction", choose_correction(self.correction, ebv=ebv))
        if self.network is not None and self.network.model.truncate != self.truncate:
            made = "truncated" if self.network.model.truncate else "full"
            raise XpjaxError(f"the correction is for {made} spectra: fit those, with truncate={not self.truncate}")
        if not isinstance(self.model, Interpolator):
            grid = self.model if isinstance(self.model, StellarGrid) else read_grid(self.model)
            name = {} if grid is self.model else {"grid": Path(self.model).name}
            about = {**name, "grid_digest": grid_digest(grid), **self.about}
            grid = grid if self.fit_ebv is None else redden(grid, self.fit_ebv)
            object.__setattr__(self, "model", interpolate_grid(grid))
            object.__setattr__(self, "about", about)
        if self.model.of_coefficients:
            raise XpjaxError(
                "this grid holds XP coefficients: fit them with fit_labels, or build one of sampled spectra"
            )

    @functools.cached_property
    def linear(self) -> LinearCorrection | None:
        """The linear correction of the spectra."""
        return linear_and_network(self.correction)[0]

    @property
    def network(self) -> NetworkCorrection | None:
        """The network that corrects spectra between two fits."""
        return linear_and_network(self.correction)[1]

    def check(self, release: Release) -> None:
        """Raise XpjaxError for sources of a release that the correction is not for, or that has no instrument here."""
        model = load_instrument(release=release)
        if self.linear is not None:
            self.linear.check(release, model.model)
        if self.network is not None:
            check_network(self.network.model, release, "the sources are")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the sources that are needed."""
        network = () if self.network is None else self.network.columns
        return tuple(dict.fromkeys((*([] if self.ebv is None else [self.ebv]), *network)))

    def __call__(
        self, table: SourceTable, *, devices: Any = None, progress: engine.Progress | None = None
    ) -> LabelFits:
        """Labels of the sources of a table. Raises ValueError for columns, errors or n_relevant that are not there."""
        n = len(table)
        parts = []
        # Equal parts, that they compile once.
        step = -(-n // max(-(-n // ROWS), 1)) or 1
        for start in range(0, n, step) or [0]:
            parts.append(self._part(table[start : start + step], devices))
            if progress is not None:
                progress(min(start + step, n))
        return concatenate_records(parts)

    def _part(self, table: SourceTable, devices: Any) -> LabelFits:
        sampler = Sampler.of(
            table.release, np.asarray(self.model.wavelength, float), correction=self.linear, truncate=self.truncate,
            errors=True, correlation=False, float64=self.float64, devices=devices,
        )  # fmt: skip
        made = sampler(table)
        noise = _noise_of(table, made, sampler) if self.covariance else None
        ebv = None if self.ebv is None else floats(table, self.ebv)
        if self.network is None:
            return self.fit(made, ebv, devices=devices, noise=noise)
        before = self.fit(made, ebv, devices=devices, noise=noise).fit
        labels: dict[str, Any] = {
            name: before.labels[:, before.names.index(name)] for name in ("teff", "mh") if name in before.names
        }
        corrected = correct_spectra(
            made,
            self.network.model,
            self.network.features(table, False, float64=self.float64, devices=devices),
            limits=self.network.limits,
            float64=self.float64,
            devices=devices,
            **labels,
        )
        return dataclasses.replace(self.fit(corrected, ebv, devices=devices, noise=noise), before=before)

    def fit(
        self,
        made: Spectra,
        ebv: np.ndarray | None = None,
        *,
        devices: Any = None,
        progress: Any = None,
        noise: _Noises | None = None,
    ) -> LabelFits:
        """Labels of sampled spectra, at any wavelengths that cover the grid's: between samples they are interpolated.

        noise: that of the coefficients they were made of, in the place of their correlations. Raises ValueError where
        they do not cover the grid, or have no errors and there is no error_floor.
        """
        grid = np.asarray(self.model.wavelength, float)
        flux, error, correlation = made.flux, made.flux_error, made.correlation if self.covariance else None
        if len(made.wavelength) != len(grid) or not np.allclose(made.wavelength, grid, rtol=1e-9):
            flux = interpolate_spectra(made.wavelength, flux, grid)
            error = None if error is None else interpolate_spectra(made.wavelength, error, grid)
            if self.covariance:
                raise XpjaxError("spectra at other wavelengths than the grid's have no covariance there: leave it out")
        if error is None and not self.error_floor > 0:
            raise XpjaxError(
                "these spectra have no errors (the coefficients come without correlations): give an error floor, as in "
                + say("error_floor=0.02", "--error-floor 0.02")
            )
        if self.covariance and correlation is None and noise is None:
            raise XpjaxError("these spectra have no correlations, which covariance needs: leave it out")
        settings = {"error_floor": self.error_floor, "float64": self.float64, "devices": devices, **self.options}

        def fitted(rows: Any, corrected: bool = False, **more: Any) -> StellarFit:
            own = [None if x is None else x[rows] for x in (correlation, ebv)]
            if noise is not None:
                own[0] = noise.of(rows, corrected)
            sigma = np.zeros_like(flux[rows]) if error is None else error[rows]
            return fit_labels(flux[rows], sigma, self.model, correlation=own[0], ebv=own[1], **more, **settings)

        found = fitted(slice(None), True, progress=progress)
        # Stars of which one XP is missing are fitted on what there is of them; apart, to leave the others as they are.
        there = np.isfinite(flux) if error is None else np.isfinite(flux) & np.isfinite(error)
        partial = np.flatnonzero(there.any(axis=1) & ~there.all(axis=1))
        if len(partial):
            found = found.with_rows(partial, fitted(partial, used=there[partial]))
        if noise is not None and len(bare := np.flatnonzero(noise.bare & there.all(axis=1))):
            found = found.with_rows(bare, fitted(bare))
        told = ("truncate", "correction", "resolution", "corrected")
        meta = {key: made.meta[key] for key in told if key in made.meta} | dict(self.about)
        if ebv is not None:
            law = self.options.get("law", "ccm89")
            meta |= {"law": law, "r_v": R_V, "per_ebv": float(self.options.get("per_ebv", AV_PER_SFD))}
        transits = {name: made.columns[name] for name in TRANSIT if name in made.columns}
        return LabelFits(made.source_id, found, None, made.status, meta, transits)


@dataclasses.dataclass(frozen=True)
class _Noises:
    """The noise of coefficients in their spectra, and, where a correction mixes BP and RP, in those not corrected.

    bare (n,): which are not corrected.
    """

    source: XPCoefficients
    reach: tuple[Reach, Reach]
    bare: np.ndarray

    def of(self, rows: Any, corrected: bool) -> Noise:
        """What `fit_labels` takes for some of the sources."""
        return Noise(self.reach[0 if corrected else 1], self.source[rows])


def _noise_of(table: SourceTable, made: Spectra, sampler: Sampler) -> _Noises:
    """The noise in spectra of a table that a sampler made. Raises XpjaxError for sources without covariances."""
    source, how = table.coefficients, sampler.how
    if not source.has_covariance:
        raise XpjaxError("these spectra have no correlations, which covariance needs: leave it out")
    support, designs = how.design.support, [how.design]
    if how.model.correction is not None:
        designs.append(dataclasses.replace(how.model, correction=None).design(how.grid))
    reach = []
    for design in designs:
        value = np.asarray(design.value, float)
        rows = [value[rows] for rows in source.release.slices]
        if source.covariance is not None:
            rows = [source.covariance.subspace.seen(value, k) for k in range(len(rows))]
        seen = tuple(row[:, start:stop] for row, (start, stop) in zip(rows, support, strict=True))
        reach.append(Reach(seen, support, sampler.wanted.truncate))
    bare = (made.status & np.uint32(Status.NOT_CORRECTED)) != 0
    return _Noises(source.of_errors(True, sampler.wanted.truncate), (reach[0], reach[-1]), bare)


# --- files ------------------------------------------------------------------------------------------------------------

FileProgress = Callable[[Path, int, int], None]
"""Called with a file, how many of its sources are done, and how many it has."""


def fit_label_files(
    inputs: Sequence[str | Path | SourceTable] | str | Path | SourceTable,
    fitter: LabelFitter,
    *,
    keep: Sequence[str] = (),
    accept_sampled: bool = False,
    devices: Any = None,
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
    passed = [*dict.fromkeys([*keep, *([] if fitter.ebv is None else [fitter.ebv])])]
    parts: list[LabelFits] = []
    wanted = None if release is None else find_release(release)
    for item in items:
        path = Path(item.origin) if isinstance(item, SourceTable) else expanded(item)
        given, whole = (item, True) if isinstance(item, SourceTable) else (path, not _is_store(path))
        for table in _sources(given, needed, np.float64 if fitter.float64 else np.float32, wanted, release is not None):
            wanted = _same_release(fitter, table, wanted, path)
            if isinstance(table, Spectra):
                fits = _fit_sampled(fitter, table, path.name, passed, accept_sampled, devices)
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
    absent = [name for name in names if name not in columns]
    if absent:
        raise XpjaxError(f"{path} has no columns {', '.join(absent)}; it has {', '.join(columns)}")


def _fit_sampled(
    fitter: LabelFitter, made: Spectra, name: str, passed: list[str], accepted: bool, devices: Any
) -> LabelFits:
    if not accepted and (fitter.linear is not None or fitter.network is not None):
        remedy = say(
            "correct them with xpjax.wiggles.correct_spectra, and take a fitter without a correction",
            "make them with `xpjax spectra --correction`, or correct them with `xpjax wiggles correct`, and leave "
            "--correction out here",
        )
        raise XpjaxError(f"{name} holds sampled spectra, which are taken as they are: {remedy}")
    if made.internal:
        raise XpjaxError(f"{name} holds internal spectra; labels are fitted to absolute ones (no --internal)")
    _check_columns(name, passed, made.columns)
    ebv = None if fitter.ebv is None else np.asarray(made.columns[fitter.ebv], float)
    return fitter.fit(made, ebv, devices=devices)
