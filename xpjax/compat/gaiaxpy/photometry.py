"""`generate`, and what may be done to its frames: error correction and color equations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.compat.gaiaxpy.errors import NoBandsAvailableError
from xpjax.compat.gaiaxpy.reading import AnyColumns, AnyInput, cast, named_columns, progress_bar, read_input
from xpjax.compat.gaiaxpy.settings import is_float64, is_strict
from xpjax.compat.gaiaxpy.spectra import BOTH_MISSING, check_saving, warn
from xpjax.compat.gaiaxpy.systems import AnyMembers, RegularPhotometricSystem, built_in, chosen
from xpjax.compat.gaiaxpy.writing import save
from xpjax.core import engine
from xpjax.core.status import Status
from xpjax.synthetic import (
    G_BAND,
    G_SYSTEM,
    ColorEquation,
    PhotometricSystem,
    Photometry,
    color_corrected,
    gaia_system,
    photometry as synthesize,
)

if TYPE_CHECKING:
    import pandas as pd

KINDS = {"mag": "magnitude", "flux": "flux", "flux_error": "flux_error"}
ONE_MISSING = np.uint32(Status.BP_MISSING | Status.RP_MISSING)
G_COLUMN = f"{G_SYSTEM}_mag_{G_BAND}"


def generate(
    input_object: AnyInput,
    photometric_system: AnyMembers,
    truncation: bool = False,
    output_path: str | Path = ".",
    output_file: str = "output_synthetic_photometry",
    output_format: str | None = None,
    save_file: bool = True,
    error_correction: bool = False,
    additional_columns: AnyColumns | None = None,
    username: str | None = None,
    password: str | None = None,
) -> pd.DataFrame:
    """Synthetic photometry in a member of `PhotometricSystem`, or a list of them: one row a source.

    Columns source_id and, for each system, LABEL_mag_BAND, LABEL_flux_BAND, LABEL_flux_error_BAND, then
    additional_columns: names, or new name -> name (in AVRO, the keys down to it). error_correction multiplies the
    errors by the published factors of G. Raises ValueError, and as `read_input` does.
    """
    systems = chosen(photometric_system)
    check_saving(save_file, output_file, "output_synthetic_photometry", output_format)
    given = read_input(
        input_object,
        truncation=truncation,
        additional=named_columns(additional_columns),
        username=username,
        password=password,
    )
    with progress_bar("generate", len(given.sources)) as advance:
        found = synthesize(
            given.sources,
            [engine for one in systems for engine in one.engines(given.sources.release)],
            truncate=truncation,
            float64=is_float64(),
            progress=advance,
        )
    if is_strict() and np.any((found.status & BOTH_MISSING) == BOTH_MISSING):
        raise NoBandsAvailableError("a source has neither BP nor RP")
    columns = _columns(found, systems)
    if is_strict():
        one = (found.status & ONE_MISSING) != 0
        columns = {name: np.where(one, np.nan, column) for name, column in columns.items()}
    frame = _frame({"source_id": found.source_id, **columns})
    if error_correction:
        own = built_in()
        tables = {one.label: one.engines(given.sources.release)[-1] for one in systems if one.label in own}
        frame = _error_corrected(frame, [one.label for one in systems], tables, _g_magnitude(given, truncation))
    more = given.additional
    for name in more.columns:
        if name not in frame.columns:
            frame[name] = more[name]
    save(frame, save_file, output_path, output_file, output_format or given.extension)
    return cast(frame)


def _columns(found: Photometry, systems: list[RegularPhotometricSystem]) -> dict[str, np.ndarray]:
    """The columns of all systems in GaiaXPy's order; bands that xpjax refuses are NaN."""
    place = {column: k for k, column in enumerate(found.system.columns)}
    unknown = np.full(len(found), np.nan)
    columns = {}
    for one in systems:
        for kind, field in KINDS.items():
            array = np.asarray(getattr(found, field), np.float64)
            for band in one.bands:
                k = place.get(f"{one.label}_{band}")
                columns[f"{one.label}_{kind}_{band}"] = unknown if k is None else array[:, k]
    return columns


def _frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns)


def _g_magnitude(given: Any, truncation: bool) -> np.ndarray:
    name = f"{gaia_system(given.sources.release)}:{G_BAND}"
    return synthesize(given.sources, name, truncate=truncation, errors=False, float64=is_float64()).magnitude[:, 0]


# --- error correction -------------------------------------------------------------------------------------------------


def apply_error_correction(
    input_multi_photometry: pd.DataFrame,
    photometric_system: AnyMembers | None = None,
    output_path: str | Path = ".",
    output_file: str = "output_corrected_photometry",
    output_format: str | None = None,
    save_file: bool = True,
) -> pd.DataFrame:
    """Errors in a frame of `generate` times the published factors of its G, which must be there.

    photometric_system: which systems, by default all in the frame; those without a table are left, with a warning.
    Raises ValueError where the frame has no GaiaDr3Vega_mag_G.
    """
    frame = _taken(input_multi_photometry)
    if G_COLUMN not in frame.columns:
        raise ValueError(f"the photometry has no {G_COLUMN}, on which the factors depend; generate Gaia_DR3_Vega too")
    if photometric_system:
        labels = [one.label for one in chosen(photometric_system)]
    else:
        labels = list(dict.fromkeys(str(name).split("_")[0] for name in frame.columns if name != "source_id"))
    by_label = built_in()
    tables = {label: by_label[label].engine for label in labels if label in by_label}
    frame = _error_corrected(frame, labels, tables, frame[G_COLUMN].to_numpy(float))
    save(frame.astype({"source_id": "int64"}), save_file, output_path, output_file, output_format or "csv")
    return frame


def _taken(given: Any) -> pd.DataFrame:
    """A copy of the frame that a function is given. Raises ValueError for anything else."""
    import pandas as pd

    if not isinstance(given, pd.DataFrame):
        raise ValueError(f"expected a DataFrame of photometry, as generate returns it, not {type(given).__name__}")
    return cast(given.copy())


def _error_corrected(
    frame: pd.DataFrame, labels: list[str], known: dict[str, PhotometricSystem], g: np.ndarray
) -> pd.DataFrame:
    """The frame with errors times the factors of G (n,), in the known systems that have tables."""
    tables = {label: system for label, system in known.items() if system.error_correction is not None}
    for label in labels:
        if label not in tables:
            warn(f"{label} has no table of error factors; its errors are left")
    with progress_bar("correct", len(tables)) as advance:
        for done, (label, system) in enumerate(tables.items(), 1):
            table = system.error_correction
            assert table is not None
            # G that is not known: GaiaXPy takes the factor of the faintest.
            at = np.where(np.isnan(g), np.inf if is_strict() else np.nan, g)
            for k, band in enumerate(system.names):
                factor = np.interp(at, np.asarray(table.g), np.asarray(table.factor)[:, k])
                name = f"{label}_flux_error_{band}"
                frame[name] = frame[name] * np.where(np.isnan(at), 1.0, factor)
            advance(done)
    return frame


# --- color equations --------------------------------------------------------------------------------------------------


def apply_colour_equation(
    input_synthetic_photometry: pd.DataFrame,
    photometric_system: AnyMembers | None = None,
    output_path: str | Path = ".",
    output_file: str = "corrected_photometry",
    output_format: str | None = None,
    save_file: bool = True,
) -> pd.DataFrame:
    """U of JkcStd and u of SdssStd in a frame, by their color equations; `generate` has applied them already.

    photometric_system: which systems, by default all in the frame. Raises ValueError for what is no frame, KeyError
    where a column is missing.
    """
    check_saving(save_file, output_file, "corrected_photometry", output_format)
    frame = _taken(input_synthetic_photometry)
    if photometric_system is None and is_strict():
        raise TypeError("photometric_system must be a member of PhotometricSystem, or a list of them")
    by_label = built_in()
    labels = list(by_label) if photometric_system is None else [one.label for one in chosen(photometric_system)]
    if photometric_system is None:
        labels = [label for label in labels if any(str(name).startswith(f"{label}_") for name in frame.columns)]
    labels = [label for label in labels if label in by_label and by_label[label].engine.color_equations]
    with progress_bar("color", len(labels)) as advance:
        for done, label in enumerate(labels, 1):
            system = by_label[label].engine
            for equation in system.color_equations:
                frame = _color_corrected(frame, label, system.names, np.asarray(system.zero_point), equation)
            advance(done)
    frame = frame.astype({"source_id": "int64"}) if "source_id" in frame.columns else frame
    save(frame, save_file, output_path, output_file, output_format or "csv")
    return frame


def _color_corrected(
    frame: pd.DataFrame, label: str, names: tuple[str, ...], zero_point: np.ndarray, equation: ColorEquation
) -> pd.DataFrame:
    """The frame with one band corrected."""
    places = list(dict.fromkeys((equation.band, equation.blue, equation.red)))
    values = {
        kind: np.stack([frame[f"{label}_{kind}_{names[k]}"].to_numpy(float) for k in places], axis=1) for kind in KINDS
    }
    # The magnitudes of the frame decide; fluxes follow from them, but where there are none.
    flux = np.where(np.isnan(values["mag"]), values["flux"], 10 ** (-0.4 * (values["mag"] - zero_point[places])))
    band, blue, red = (places.index(k) for k in (equation.band, equation.blue, equation.red))
    local = ColorEquation(equation.coefficient, equation.color_range, band, blue, red)
    constants = {"equation": local, "zero_point": zero_point[places]}
    found = engine.run(_color_kernel, constants, {"flux": flux, "error": values["flux_error"]}, float64=True)
    for kind, column in zip(("flux", "flux_error", "mag"), found, strict=True):
        frame[f"{label}_{kind}_{names[equation.band]}"] = column
    return frame


def _color_kernel(constants: dict[str, Any], source: dict[str, Any]) -> Any:
    return color_corrected(constants["equation"], source["flux"], source["error"], constants["zero_point"])[:3]
