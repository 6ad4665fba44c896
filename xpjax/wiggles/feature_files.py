"""Files of features: those of xpjax, and tables of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.hdf5 import open_hdf5, write_model
from xpjax.io.tables import Table, open_table
from xpjax.wiggles.features import EBV, FEATURES, SHAPES, Features
from xpjax.wiggles.meaning import Meaning
from xpjax.xp import NONE, source_ids


def write_features(path: str | Path, table: Features, *, overwrite: bool = False) -> None:
    """Write features to an HDF5 file: source_id, features with attribute `names`, and where known ebv and input_error.

    Parameters
    ----------
    path : str or Path
        File to write.
    table : Features
        The features.
    overwrite : bool
        Replace a file that exists.

    Raises
    ------
    FileExistsError
        Where the file exists and is not to be overwritten.

    Notes
    -----
    Attributes of the file say what the features are of: base, and where known truncate, gaia and release.

    Examples
    --------
    >>> stars = xpjax.wiggles.make_features(xpjax.simulate_sources(5, seed=1), "color")
    >>> xpjax.wiggles.write_features("features.h5", stars)
    >>> xpjax.wiggles.read_features("features.h5").names
    ('BP-RP',)
    """
    arrays = {"source_id": table.source_id, "features": table.value, "ebv": table.ebv, "input_error": table.input_error}
    attributes = {"base": table.base, **_meaning(table).attributes()}
    notes = {"features": {"names": list(table.names)}}
    write_model(path, "xpjax features", 1, arrays, attributes, notes=notes, overwrite=overwrite)


def _meaning(table: Features) -> Meaning:
    return Meaning(truncate=table.truncate, gaia=table.gaia, release=table.release)


def read_features(path: str | Path, names: Sequence[str] = ()) -> Features:
    """Read features from a file of `write_features`, or from a table of others.

    Parameters
    ----------
    path : str or Path
        HDF5, Parquet, FITS, ECSV, CSV, ... with source_id, integers, and a column for each feature, by the names of
        `make_features`; `ebv` [mag] is E(B-V), a feature only where it is called so. An HDF5 file may have the features
        in one dataset features (n, k) with an attribute names.
    names : sequence of str
        Features that a table has beside the known ones.

    Returns
    -------
    Features
        The features [mag]; magnitudes are converted where the file states another unit. Attributes base, truncate,
        gaia and release say what the features are of; without base they are of spectra as published.

    Raises
    ------
    XpjaxError
        For what is missing, and for ids that are no integers.

    Examples
    --------
    >>> stars = xpjax.wiggles.make_features(xpjax.simulate_sources(5, seed=1), "color")
    >>> xpjax.write("features.parquet", stars)
    >>> xpjax.wiggles.read_features("features.parquet").value.shape
    (5, 1)
    """
    try:
        return features_of(open_table(path), Path(path), names)
    except XpjaxError as error:
        raise XpjaxError(
            f"{path} is no file of features ({error}): it needs source_id (n), and columns named as features, or in "
            "HDF5 a dataset features (n, k) with attribute names"
        ) from error


def features_of(table: Table, path: Path, names: Sequence[str] = ()) -> Features:
    """Features of a table; see `read_features`. Raises XpjaxError for what is missing."""
    source_id = source_ids(table)
    if "features" in table:
        known = hdf5_names(path, "features")
        if known is None:
            raise XpjaxError("the dataset features has no attribute names")
        chosen, value = known, table.column("features").array()
        if value.shape[1] != len(chosen):
            raise XpjaxError(f"features {value.shape} do not fit its {len(chosen)} names {list(chosen)}")
    else:
        told = [str(name) for name in np.atleast_1d(table.meta.get("features", ())) if str(name) in table]
        chosen = tuple(names) or tuple(told) or tuple(name for name in (*FEATURES, *SHAPES) if name in table)
        if not chosen:
            raise XpjaxError(f"no column is named as a feature, such as BP-RP or shape-1; it has {table.names}")
        columns = {n: "ebv" if n == EBV and n not in table and "ebv" in table else n for n in chosen}
        for column in columns.values():
            table.check(column, "a feature")
        table.load([*columns.values(), "ebv"])
        kinds = {n: "magnitude" if n in FEATURES else None for n in chosen}
        value = np.stack([table.column(columns[n]).numbers(kinds[n]) for n in chosen], axis=1)
    ebv = table.column("ebv").numbers("magnitude") if "ebv" in table else None
    if ebv is None and EBV in chosen:
        ebv = value[:, chosen.index(EBV)]
    error = table.column("input_error").array() if "input_error" in table else None
    meaning = Meaning.of(table.meta, table.origin)
    base = str(table.meta.get("base", NONE))
    return Features(source_id, chosen, value, ebv, error, base, meaning.truncate, meaning.gaia, meaning.release)


def hdf5_names(path: Path, name: str) -> tuple[str, ...] | None:
    """The attribute names of a dataset of an HDF5 file; None where there is none."""
    import h5py

    if not h5py.is_hdf5(path):
        return None
    with open_hdf5(path) as file:
        found = file[name].attrs.get("names") if name in file else None
    if found is None:
        return None
    return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in np.atleast_1d(found))
