"""What a correction is told of a star: features made of magnitudes and E(B-V), or of the spectrum.

The 14 of Ye et al. (2024), in their order, are combinations of SkyMapper u, v, g, i (synthetic, not dereddened), Gaia
G, BP, RP (given or synthetic) and E(B-V). A feature is a sum of inputs, so errors of the inputs pass on exactly.

Beside them the shape of the spectrum itself: with c the coefficients, m the mean flux on 400..990 nm, and U S V' the
root of the covariance of ordinary stars' c / m about their mean x, shape-k = U_k' (c / m - x) / S_k, largest S first.
Errors of shapes are not passed on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError, say
from xpjax.core.ids import places_of
from xpjax.core.process import one_blas_thread
from xpjax.core.records import Catalogue, Record, Rows, concatenate_records
from xpjax.core.units import in_unit
from xpjax.io.results import TableResult
from xpjax.synthetic import gaia_system, load_system, photometry
from xpjax.wiggles.meaning import Meaning
from xpjax.xp import (
    NONE,
    AnyLinear,
    AnySources,
    LinearCorrection,
    SourceTable,
    as_sources,
    load_correction,
    load_instrument,
    read,
)

FEATURES: Mapping[str, Mapping[str, float]] = {
    "g-i": {"g": 1, "i": -1},
    "v-g-0.9(g-i)": {"v": 1, "g": -1.9, "i": 0.9},
    "u-v-0.9(g-i)": {"u": 1, "v": -1, "g": -0.9, "i": 0.9},
    **{name: {name: 1} for name in ("u", "v", "g", "i", "G", "BP", "RP")},
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
class Features(Rows, TableResult, Record):
    """Hold features of many stars: what a network is told of each.

    Parameters
    ----------
    source_id : (n,) array of int
        Identifiers of the stars.
    names : tuple of str
        Names of the features.
    value : (n, n_feature) array [mag]
        The features, NaN where unknown; shapes have no unit.
    ebv : (n,) array, optional [mag]
        E(B-V), which dereddening needs even where it is no feature.
    input_error : (n, 8) array, optional [mag]
        Errors of u, v, g, i, G, BP, RP and E(B-V).
    base : str
        Name of the linear correction of the spectra that the features were made of.
    truncate : bool, optional
        Whether these spectra were of truncated coefficients; None where it is not known, or of no account.
    gaia : {"synthetic", "columns"}, optional
        Origin of G, BP and RP.
    release : str, optional
        Name of the data release of the spectra.

    Raises
    ------
    XpjaxError
        For shapes that do not fit.

    Examples
    --------
    >>> stars = xpjax.wiggles.Features(np.arange(1, 3), ("BP-RP",), np.array([[0.7], [1.2]]))
    >>> stars[:1].value
    array([[0.7]])
    """

    source_id: np.ndarray
    names: tuple[str, ...]
    value: np.ndarray
    ebv: np.ndarray | None = None
    input_error: np.ndarray | None = None
    base: str = NONE
    truncate: bool | None = None
    gaia: str | None = None
    release: str | None = None
    row_fields: ClassVar[tuple[str, ...]] = ("source_id", "value", "ebv", "input_error")

    def __post_init__(self) -> None:
        n = len(self.source_id)
        expected = {"value": (n, len(self.names)), "ebv": (n,), "input_error": (n, len(INPUTS))}
        for key, shape in expected.items():
            array = getattr(self, key)
            if array is not None and np.shape(array) != shape:
                raise XpjaxError(f"features: {key} has shape {np.shape(array)}, expected {shape}")
        if len(set(self.names)) != len(self.names):
            raise XpjaxError(f"features: a name occurs twice in {self.names}")

    def catalogue(self) -> Catalogue:
        """A column for each feature, by its name, and ebv; `read_features` reads such a table."""
        columns = {"source_id": self.source_id, **dict(zip(self.names, self.value.T, strict=True))}
        columns |= {name: value for name in ("ebv", "input_error") if (value := getattr(self, name)) is not None}
        meaning = Meaning(truncate=self.truncate, gaia=self.gaia, release=self.release)
        magnitudes = [name for name in columns if name in FEATURES or name in ("ebv", "input_error")]
        described = {name: f"Component {name.removeprefix('shape-')} of the spectral shape" for name in SHAPES}
        described |= {"ebv": "Reddening E(B-V)", "input_error": f"Standard errors of {', '.join(INPUTS)}"}
        return Catalogue(
            columns,
            dict.fromkeys(magnitudes, "mag"),
            {name: text for name, text in described.items() if name in columns},
            meta={"features": list(self.names), "base": self.base, **meaning.attributes()},
        )

    def select(self, names: Sequence[str]) -> Features:
        """Some of the features, in this order. Raises XpjaxError for one that is not there."""
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
    """Names of features from a set's name or a list. Raises XpjaxError for one that is not known."""
    chosen = SETS.get(names, (names,)) if isinstance(names, str) else tuple(names)
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
    sources: AnySources | Mapping[str, ArrayLike],
    names: str | Sequence[str] = "paper",
    *,
    ebv: ArrayLike | None = None,
    gaia: str | Mapping[str, ArrayLike] = "synthetic",
    truncate: bool = False,
    errors: bool = False,
    correction: AnyLinear = None,
    float64: bool = False,
    devices: Devices = None,
) -> Features:
    """Make features of stars from their XP coefficients, or from magnitudes.

    Parameters
    ----------
    sources
        What `xpjax.photometry` takes; a list of files, which are read one by one; or a mapping of magnitudes (n,) [mag]
        with the names u, v, g, i, G, BP, RP and E(B-V).
    names : str or sequence of str
        Names of features, or of a set: "paper", "no-ebv", "gaia", "color" or "shape".
    ebv : (n,) array or str, optional [mag]
        E(B-V), or the name of its column.
    gaia : {"synthetic", "columns"} or mapping
        Origin of G, BP and RP: the spectra, the columns phot_g_mean_mag, ..., or a mapping of G, BP, RP to (n,) [mag].
    truncate : bool
        Use only the relevant coefficients.
    errors : bool
        With errors of the synthetic magnitudes; those of what is given are zero.
    correction : optional
        Linear correction of the spectra.
    float64 : bool
        Compute in double precision.
    devices : optional
        Device names as of `xpjax.photometry`.

    Returns
    -------
    Features
        Features of the sources in their order.

    Raises
    ------
    XpjaxError
        For unknown names, and an input that is needed and not given.

    Notes
    -----
    The set "paper" is that of Ye et al. (2024). With c the coefficients, m the mean flux on 400..990 nm, and U S V' the
    root of the covariance of ordinary stars' c / m about their mean x, shape-k = U_k' (c / m - x) / S_k.

    Examples
    --------
    >>> stars = xpjax.wiggles.make_features(xpjax.simulate_sources(5, seed=1), "gaia", ebv=np.zeros(5))
    >>> stars.names
    ('BP-RP', 'G', 'E(B-V)')
    """
    chosen, linear = check_names(names), load_correction(correction)
    base = NONE if linear is None else linear.name
    needed = [name for name, row in zip(INPUTS, combination(chosen), strict=True) if row.any()]
    if isinstance(sources, Mapping):
        made = _from_magnitudes({**sources, **({} if ebv is None else {EBV: ebv})}, chosen, needed)
        return dataclasses.replace(made, base=base, gaia="columns" if any(name in needed for name in GAIA) else None)
    options = {"truncate": truncate, "errors": errors, "float64": float64, "devices": devices}
    if isinstance(sources, list | tuple):
        # File by file: coefficients and correlations take a hundred times the memory of features.
        return _of_several(sources, chosen, ebv=ebv, gaia=gaia, correction=linear, **options)
    table = _read(sources, ebv, gaia, float64)
    value, error = _magnitudes(table, needed, gaia, linear, options)
    known_ebv = _given_ebv(table, ebv, EBV in needed)
    value |= {} if known_ebv is None else {EBV: known_ebv}
    combined = _combined(np.stack([np.where(np.isfinite(value[n]), value[n], np.nan) for n in INPUTS], axis=1), chosen)
    own = _fill_shapes(combined, chosen, table, truncate)
    input_error = np.stack([error[name] for name in INPUTS], axis=1) if errors else None
    from_gaia = any(name in needed for name in GAIA)
    origin = ("synthetic" if gaia == "synthetic" else "columns") if from_gaia else None
    from_spectra = own or origin == "synthetic" or any(name in needed for name in SKYMAPPER)
    how = (base, truncate if from_spectra else None, origin, table.release.name)
    return Features(table.source_id, chosen, combined, known_ebv, input_error, *how)


def _of_several(sources: Sequence[Any], names: tuple[str, ...], **options: Any) -> Features:
    """Features of several inputs, as `make_features` makes them. Raises XpjaxError where they are of two releases."""
    each: list[Features] = []
    for one in sources:
        each.append(make_features(one, names, **options))
        if each[-1].release != each[0].release:
            first, other = (item if isinstance(item, str | Path) else "another input" for item in (sources[0], one))
            raise XpjaxError(
                f"{first} is of {each[0].release}, {other} of {each[-1].release}: make features of each by itself"
            )
    return concatenate_records(each)


def _fill_shapes(value: np.ndarray, names: Sequence[str], table: SourceTable, truncate: bool) -> bool:
    """Put shapes into features (n, n_feature); whether there are any."""
    own = [k for k, name in enumerate(names) if name in SHAPES]
    if own:
        value[:, own] = shapes(table, truncate)[:, [SHAPES.index(names[k]) for k in own]]
    return bool(own)


def _given_ebv(table: SourceTable, ebv: Any, needed: bool) -> np.ndarray | None:
    """E(B-V) (n,) as it is given, or from a column. Raises XpjaxError where it is needed and not given."""
    if ebv is not None:
        given, name = (table.columns, ebv) if isinstance(ebv, str) else ({EBV: ebv}, EBV)
        return _column(given, name, len(table), table.origin)
    if needed:
        option = say("ebv=, an array or the name of a column,", "--ebv COLUMN,")
        raise XpjaxError(f"E(B-V) is a feature: give {option} or leave it out of {say('names', '--names')}")
    return None


def _read(sources: Any, ebv: Any, gaia: Any, float64: bool) -> SourceTable:
    """The sources; of a file with the columns that features need."""
    if not isinstance(sources, str | Path):
        return as_sources(sources)
    keep = [*(COLUMNS.values() if gaia == "columns" else ()), *[ebv] * isinstance(ebv, str)]
    return read(sources, dtype=np.float64 if float64 else np.float32, keep=keep)


def _magnitudes(
    table: SourceTable, needed: Sequence[str], gaia: Any, linear: LinearCorrection | None, options: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs (n,) [mag] and their errors by name: synthetic ones and given ones; options: of `photometry`."""
    n = len(table)
    value, error = {name: np.full(n, np.nan) for name in INPUTS}, {name: np.zeros(n) for name in INPUTS}
    own, of_gaia = ([name for name in names if name in needed] for names in (SKYMAPPER, GAIA))
    wanted = [f"SkyMapper:{','.join(own)}"] * bool(own)
    if gaia == "synthetic":
        wanted += [f"{gaia_system(table.release)}:{','.join(of_gaia)}"] * bool(of_gaia)
    else:
        if isinstance(gaia, str) and gaia != "columns":
            raise XpjaxError(f'gaia={gaia!r}: give "synthetic", "columns" or a mapping of G, BP and RP')
        of_table = {name: table.columns[column] for name, column in COLUMNS.items() if column in table.columns}
        given = of_table if isinstance(gaia, str) else gaia
        value |= {name: _column(given, name, n, table.origin) for name in of_gaia}
    if wanted:
        found = photometry(table, load_system(*wanted, release=table.release), correction=linear, **options)
        for k, name in enumerate(found.system.names):
            value[name] = found.magnitude[:, k].astype(float)
            if options["errors"]:
                known = found.magnitude_error
                error[name] = np.full(n, np.nan) if known is None else known[:, k].astype(float)
    return value, error


def shapes(table: SourceTable, truncate: bool = False) -> np.ndarray:
    """The shapes (n, 10) of spectra, see the module; NaN where one XP is missing or the mean flux is not positive."""
    correction = load_correction()
    assert correction is not None
    correction.check(table.release, "")
    low, high = correction.level_range
    inside = (correction.wavelength >= low) & (correction.wavelength <= high)
    design = load_instrument(correction.model, release=table.release).design(correction.wavelength[inside])
    value = np.asarray(table.coefficients.value, float)
    if truncate:
        assert table.coefficients.n_relevant is not None
        place = np.concatenate([np.arange(n) for n in table.release.n_basis])
        xp = np.repeat(np.arange(len(table.release.n_basis)), table.release.n_basis)
        value = np.where(place < np.asarray(table.coefficients.n_relevant)[:, xp], value, 0.0)
    level = (value @ np.asarray(design.value)).mean(axis=1, keepdims=True) * float(design.scale)
    with one_blas_thread():
        vector, size, _ = np.linalg.svd(correction.root, full_matrices=False)
    vector, size = vector[:, : len(SHAPES)], size[: len(SHAPES)]
    vector = vector * np.sign(vector[np.abs(vector).argmax(axis=0), np.arange(len(SHAPES))])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(level > 0, (value / level - correction.center) @ vector / size, np.nan))


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


def _column(given: Mapping[str, Any], name: str, n: int, origin: str) -> np.ndarray:
    """One column (n,) as floats, NaN where masked. Raises XpjaxError where it is absent or of another length."""
    if name not in given:
        column = COLUMNS.get(name, name)
        raise XpjaxError(f"{origin} has no {column}, which a feature needs; keep this column or give the values")
    array: np.ndarray = np.ma.filled(np.ma.asarray(in_unit(given[name], "mag", name), float), np.nan)
    if array.shape not in ((), (n,)):
        raise XpjaxError(f"{name} has shape {array.shape}, expected ({n},): one value for each source")
    return np.broadcast_to(array, (n,)).astype(float)


def floats(table: SourceTable, name: str) -> np.ndarray:
    """A column (n,) as floats, NaN where masked. Raises XpjaxError where it is absent."""
    if name not in table.columns:
        raise XpjaxError(f"{table.origin} has no column {name}; it has {list(table.columns) or 'no others'}")
    return np.ma.filled(np.ma.asarray(table.columns[name], float), np.nan)
