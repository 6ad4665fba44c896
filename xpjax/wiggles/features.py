"""What a correction is told of a star: features made of magnitudes and E(B-V), and their files.

The 14 of Ye et al. (2024), in their order, are combinations of SkyMapper u, v, g, i (synthetic, not dereddened), Gaia
G, BP, RP (given or synthetic) and E(B-V). A feature is a sum of inputs, so errors of the inputs pass on exactly.

Beside them the shape of the spectrum itself: with c the coefficients, m the mean flux on 400..990 nm, and U S V' the
root of the covariance of ordinary stars' c / m about their mean x, shape-k = U_k' (c / m - x) / S_k, largest S first.
Errors of shapes are not passed on.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.ids import places_of
from xpjax.core.records import Record
from xpjax.core.units import in_unit
from xpjax.io.catalogue import write_bytes
from xpjax.io.hdf5 import open_hdf5
from xpjax.io.tables import Table, open_table
from xpjax.synthetic import G_SYSTEM, load_system, photometry
from xpjax.wiggles.meaning import Meaning
from xpjax.xp import NONE, SourceTable, as_sources, load_correction, load_instrument, source_ids

FEATURES: Mapping[str, Mapping[str, float]] = {
    "g-i": {"g": 1, "i": -1},
    "v-g-0.9(g-i)": {"v": 1, "g": -1.9, "i": 0.9},
    "u-v-0.9(g-i)": {"u": 1, "v": -1, "g": -0.9, "i": 0.9},
    "u": {"u": 1},
    "v": {"v": 1},
    "g": {"g": 1},
    "i": {"i": 1},
    "G": {"G": 1},
    "BP": {"BP": 1},
    "RP": {"RP": 1},
    "BP-RP": {"BP": 1, "RP": -1},
    "BP-G": {"BP": 1, "G": -1},
    "RP-G": {"RP": 1, "G": -1},
    "E(B-V)": {"E(B-V)": 1},
}
"""Each feature as a sum of inputs."""
SHAPES = tuple(f"shape-{k}" for k in range(1, 11))
"""Leading components of the coefficients over their mean flux."""
SETS: Mapping[str, tuple[str, ...]] = {
    "paper": tuple(FEATURES),
    "no-ebv": tuple(name for name in FEATURES if name != "E(B-V)"),
    "gaia": ("BP-RP", "G", "E(B-V)"),
    "color": ("BP-RP",),
    "shape": SHAPES,
}
"""Sets of features by name."""
INPUTS = ("u", "v", "g", "i", "G", "BP", "RP", "E(B-V)")
"""What features are made of [mag]."""
SKYMAPPER, GAIA, EBV = INPUTS[:4], INPUTS[4:7], INPUTS[7]
COLUMNS = dict(zip(GAIA, ("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag"), strict=True))
"""Columns of gaia_source that hold the Gaia magnitudes."""


@dataclasses.dataclass(frozen=True, repr=False)
class Features(Record):
    """Features of many stars, on the host.

    source_id (n,); value (n, n_feature) [mag], NaN where unknown; input_error (n, n_input) [mag] in the order of
    INPUTS, or None; ebv (n,) [mag] or None, which dereddening needs even where it is no feature. base: name of the
    linear correction of the spectra that they were made of; truncate: whether these are of truncated coefficients;
    gaia: whether G, BP and RP are "synthetic" or given ("columns"); None: not known, or of no account. Raises
    ValueError for shapes that do not fit.
    """

    source_id: np.ndarray
    names: tuple[str, ...]
    value: np.ndarray
    ebv: np.ndarray | None = None
    input_error: np.ndarray | None = None
    base: str = NONE
    truncate: bool | None = None
    gaia: str | None = None

    def __post_init__(self) -> None:
        n = len(self.source_id)
        expected = {"value": (n, len(self.names)), "ebv": (n,), "input_error": (n, len(INPUTS))}
        for key, shape in expected.items():
            array = getattr(self, key)
            if array is not None and np.shape(array) != shape:
                raise XpjaxError(f"features: {key} has shape {np.shape(array)}, expected {shape}")
        if len(set(self.names)) != len(self.names):
            raise XpjaxError(f"features: a name occurs twice in {self.names}")

    def __len__(self) -> int:
        return len(self.source_id)

    def __getitem__(self, rows: slice | np.ndarray) -> Features:
        """Some of the stars."""

        def pick(array: Any) -> Any:
            return None if array is None else array[rows]

        own = {name: pick(getattr(self, name)) for name in ("source_id", "value", "ebv", "input_error")}
        return dataclasses.replace(self, **own)

    def select(self, names: Sequence[str]) -> Features:
        """Some of the features, in this order. Raises ValueError for one that is not there."""
        absent = [name for name in names if name not in self.names]
        if absent:
            raise XpjaxError(f"features {absent} are needed; there are {list(self.names)}")
        columns = [self.names.index(name) for name in names]
        return dataclasses.replace(self, names=tuple(names), value=self.value[:, columns])

    def matched(self, source_id: np.ndarray) -> Features:
        """The features of these sources (n,), by source_id; NaN for those that are not there or are 0."""
        rows = places_of(source_id, self.source_id)
        found = (rows >= 0) & (source_id != 0)

        def pick(array: np.ndarray | None) -> np.ndarray | None:
            if array is None:
                return None
            out = np.full((len(source_id), *array.shape[1:]), np.nan)
            out[found] = array[rows[found]]
            return out

        own: dict[str, Any] = {name: pick(getattr(self, name)) for name in ("value", "ebv", "input_error")}
        return dataclasses.replace(self, source_id=np.asarray(source_id), **own)


def check_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names of features from a set's name or a list. Raises ValueError for one that is not known."""
    chosen = SETS.get(names) if isinstance(names, str) else tuple(names)
    if chosen is None:
        chosen = (str(names),)
    unknown = [name for name in chosen if name not in FEATURES and name not in SHAPES]
    if unknown or not chosen:
        known = [*FEATURES, *SHAPES]
        raise XpjaxError(f"unknown features {unknown}; choose from {known}, or a set of {list(SETS)}")
    return chosen


def combination(names: Sequence[str]) -> np.ndarray:
    """The matrix (n_input, n_feature) that makes features of inputs; zero columns for shapes and the user's own."""
    matrix = np.zeros((len(INPUTS), len(names)))
    for k, name in enumerate(names):
        for one, factor in FEATURES.get(name, {}).items():
            matrix[INPUTS.index(one), k] = factor
    return matrix


def make_features(
    sources: Any,
    names: str | Sequence[str] = "paper",
    *,
    ebv: Any = None,
    gaia: str | Mapping[str, Any] = "synthetic",
    truncate: bool = False,
    errors: bool = False,
    correction: Any = None,
    float64: bool = False,
    devices: Any = None,
) -> Features:
    """Features of stars from their coefficients; or from a mapping of magnitudes (n,) with the names of INPUTS.

    sources as for `photometry`. names: features, or the name of a set ("paper", "no-ebv", "gaia", "color", "shape").
    ebv: (n,) [mag], or the name of a column. gaia: "synthetic", "columns" (phot_g_mean_mag, ...) or a mapping of G, BP,
    RP to (n,). truncate as in `photometry`. errors: with errors of the synthetic magnitudes, zero for what is given.
    correction: the linear one that the spectra have, which a network stands on. Raises ValueError for unknown names, or
    an input that is needed and not given.
    """
    chosen = check_names(names)
    linear = load_correction(correction)
    base = NONE if linear is None else linear.name
    needed = [name for name in INPUTS if np.any(combination(chosen)[INPUTS.index(name)])]
    if isinstance(sources, Mapping):
        made = _from_magnitudes({**sources, **({} if ebv is None else {EBV: ebv})}, chosen, needed)
        return dataclasses.replace(made, base=base, gaia="columns" if any(name in needed for name in GAIA) else None)
    table = as_sources(sources)
    n = len(table)
    value = {name: np.full(n, np.nan) for name in INPUTS}
    error = {name: np.zeros(n) for name in INPUTS}
    wanted = [f"SkyMapper:{','.join(name for name in SKYMAPPER if name in needed)}"]
    wanted = wanted if any(name in needed for name in SKYMAPPER) else []
    if gaia == "synthetic":
        wanted += [f"{G_SYSTEM}:{','.join(name for name in GAIA if name in needed)}"] * any(
            name in needed for name in GAIA
        )
    else:
        given = _columns(table) if isinstance(gaia, str) else gaia
        if isinstance(gaia, str) and gaia != "columns":
            raise XpjaxError(f'gaia={gaia!r}: give "synthetic", "columns" or a mapping of G, BP and RP')
        for name in GAIA:
            if name in needed:
                value[name] = _column(given, name, n, table.origin)
    if wanted:
        options: dict[str, Any] = {"truncate": truncate, "errors": errors, "float64": float64, "devices": devices}
        found = photometry(table, load_system(*wanted), correction=linear, **options)
        for k, name in enumerate(found.system.names):
            value[name] = found.magnitude[:, k].astype(float)
            if errors:
                known = found.magnitude_error
                error[name] = np.full(n, np.nan) if known is None else known[:, k].astype(float)
    known_ebv = None
    if ebv is not None:
        known_ebv = _column(table.columns if isinstance(ebv, str) else {EBV: ebv}, ebv if isinstance(ebv, str) else EBV,
                            n, table.origin)  # fmt: skip
        value[EBV] = known_ebv
    elif EBV in needed:
        option = say("ebv=, an array or the name of a column,", "--ebv COLUMN,")
        raise XpjaxError(f"E(B-V) is a feature: give {option} or leave it out of {say('names', '--names')}")
    inputs = np.stack([np.where(np.isfinite(value[name]), value[name], np.nan) for name in INPUTS], axis=1)
    value_of_all = _combined(inputs, chosen)
    own = [k for k, name in enumerate(chosen) if name in SHAPES]
    if own:
        value_of_all[:, own] = shapes(table, truncate)[:, [SHAPES.index(chosen[k]) for k in own]]
    input_error = np.stack([error[name] for name in INPUTS], axis=1) if errors else None
    origin = ("synthetic" if gaia == "synthetic" else "columns") if any(name in needed for name in GAIA) else None
    cut = truncate if wanted or own else None
    return Features(table.source_id, chosen, value_of_all, known_ebv, input_error, base, cut, origin)


def shapes(table: SourceTable, truncate: bool = False) -> np.ndarray:
    """The shapes (n, 10) of spectra, see the module; NaN where one XP is missing or the mean flux is not positive."""
    correction = load_correction()
    assert correction is not None
    correction.check(table.release, "")
    low, high = correction.level_range
    inside = (correction.wavelength >= low) & (correction.wavelength <= high)
    design = load_instrument(correction.model).design(correction.wavelength[inside])
    value = np.asarray(table.coefficients.value, float)
    if truncate:
        assert table.coefficients.n_relevant is not None
        place = np.concatenate([np.arange(n) for n in table.release.n_basis])
        xp = np.repeat(np.arange(len(table.release.n_basis)), table.release.n_basis)
        value = np.where(place < np.asarray(table.coefficients.n_relevant)[:, xp], value, 0.0)
    level = (value @ np.asarray(design.value)).mean(axis=1, keepdims=True) * float(design.scale)
    vector, size, _ = np.linalg.svd(correction.root, full_matrices=False)
    vector, size = vector[:, : len(SHAPES)], size[: len(SHAPES)]
    vector = vector * np.sign(vector[np.abs(vector).argmax(axis=0), np.arange(len(SHAPES))])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(level > 0, (value / level - correction.center) @ vector / size, np.nan))


def concatenate(parts: Sequence[Features]) -> Features:
    """Features of stars one after the other; all have the same names, and errors and E(B-V) or not."""

    def joined(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    joint = {name: joined(name) for name in ("source_id", "value", "ebv", "input_error")}
    return dataclasses.replace(parts[0], **joint)


def _combined(inputs: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Features (n, n_feature) of inputs (n, n_input); an unknown input spoils only the features that it is part of."""
    out = np.zeros((len(inputs), len(names)))
    for k, column in enumerate(combination(names).T):
        used = column != 0
        out[:, k] = inputs[:, used] @ column[used]
    return out


def _from_magnitudes(given: Mapping[str, Any], names: tuple[str, ...], needed: Sequence[str]) -> Features:
    if any(name in SHAPES for name in names):
        raise XpjaxError(f"{[name for name in names if name in SHAPES]} are made of coefficients: give XP sources")
    absent = [name for name in needed if name not in given]
    if absent:
        raise XpjaxError(f"features {list(names)} need {absent}; the mapping has {list(given)}")
    n = len(np.atleast_1d(np.asarray(given[needed[0]])))
    inputs = np.full((n, len(INPUTS)), np.nan)
    for name in (name for name in INPUTS if name in given):
        inputs[:, INPUTS.index(name)] = _column(given, name, n, "the mapping")
    ebv = inputs[:, INPUTS.index(EBV)] if EBV in given else None
    source_id = np.asarray(given.get("source_id", np.arange(1, n + 1)))
    return Features(source_id, names, _combined(inputs, names), ebv)


def _columns(table: SourceTable) -> Mapping[str, Any]:
    return {name: table.columns[column] for name, column in COLUMNS.items() if column in table.columns}


def _column(given: Mapping[str, Any], name: str, n: int, origin: str) -> np.ndarray:
    """One column (n,) as floats, NaN where masked. Raises ValueError where it is absent or of another length."""
    if name not in given:
        column = COLUMNS.get(name, name)
        raise XpjaxError(f"{origin} has no {column}, which a feature needs; keep this column or give the values")
    array: np.ndarray = np.ma.filled(np.ma.asarray(in_unit(given[name], "mag", name), float), np.nan)
    if array.shape not in ((), (n,)):
        raise XpjaxError(f"{name} has shape {array.shape}, expected ({n},): one value for each source")
    return np.broadcast_to(array, (n,)).astype(float)


def floats(table: SourceTable, name: str) -> np.ndarray:
    """A column (n,) as floats, NaN where masked. Raises ValueError where it is absent."""
    if name not in table.columns:
        raise XpjaxError(f"{table.origin} has no column {name}; it has {list(table.columns) or 'no others'}")
    return np.ma.filled(np.ma.asarray(table.columns[name], float), np.nan)


def write_features(path: str | Path, table: Features, *, overwrite: bool = False) -> None:
    """Features as an HDF5 file: source_id, features with attribute `names`, and where known ebv and input_error.

    Attributes of the file say what they are of: base, and where known truncate and gaia.
    """
    import h5py

    if Path(path).exists() and not overwrite:
        raise FileExistsError(f"{path} exists; name another file, or add {say('overwrite=True', '--overwrite')}")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["source_id"] = table.source_id
        file["features"] = table.value
        file["features"].attrs["names"] = list(table.names)
        file.attrs["base"] = table.base
        file.attrs.update(Meaning(truncate=table.truncate, gaia=table.gaia).attributes())
        for name in ("ebv", "input_error"):
            if getattr(table, name) is not None:
                file[name] = getattr(table, name)
    write_bytes(path, buffer.getvalue())


def read_features(path: str | Path, names: Sequence[str] = ()) -> Features:
    """Features from a file of `write_features`, or from any table that `xpjax.io.tables` reads.

    A table (HDF5, Parquet, FITS, ECSV, CSV, ...) has source_id, integers, and a column for each feature, by the names
    of `FEATURES` and `SHAPES` or by these names; `ebv` [mag] is E(B-V), a feature only where it is called so. An HDF5
    file may have them in one dataset features (n, k) with an attribute names. Magnitudes are converted to mag where the
    file states another unit. Attributes base, truncate and gaia say what the features are of; without base they are of
    spectra as published. Raises XpjaxError for what is missing, and for ids that are no integers.
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
        chosen = tuple(names) or tuple(name for name in (*FEATURES, *SHAPES) if name in table)
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
    return Features(source_id, chosen, value, ebv, error, base, meaning.truncate, meaning.gaia)


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
