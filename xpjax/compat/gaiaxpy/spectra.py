"""`calibrate` and `convert`, and the dispersion functions."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from xpjax.compat.gaiaxpy.errors import NoBandsAvailableError
from xpjax.compat.gaiaxpy.reading import AnyInput, Input, objects, progress_bar, read_input
from xpjax.compat.gaiaxpy.settings import is_float64, is_strict
from xpjax.compat.gaiaxpy.writing import save
from xpjax.core import engine
from xpjax.core.constants import XP_RANGE
from xpjax.core.linalg import dot, pack
from xpjax.core.release import DR3, Release
from xpjax.core.status import Status
from xpjax.xp import (
    INTERNAL_GRID,
    Instrument,
    Spectra,
    XPCoefficients,
    covariance,
    dispersion,
    load_instrument as load_instrument,
    masked,
    merge_weights,
    spectra as sample,
)

if TYPE_CHECKING:
    import pandas as pd

BOTH_MISSING = np.uint32(Status.BP_MISSING | Status.RP_MISSING)


class _Kind:
    """What `frame.attrs["data_type"]` says of the spectra in a frame."""

    units: dict[str, str] = {}  # noqa: RUF012
    labels = ("", "")

    @classmethod
    def get_units(cls) -> dict[str, str]:
        """Units by column name; `pos` is the sampling."""
        return cls.units

    @classmethod
    def get_position_label(cls) -> str:
        """What to write below a plot."""
        return cls.labels[0]

    @classmethod
    def get_flux_label(cls) -> str:
        """What to write beside a plot."""
        return cls.labels[1]


class CalibrationAbsoluteSampledSpectrum(_Kind):
    """Absolute spectra."""

    units = {"flux": "W.nm**-1.m**-2", "flux_error": "W.nm**-1.m**-2", "pos": "nm"}  # noqa: RUF012
    labels = ("Wavelength [nm]", r"Flux [W nm$^{-1}$ m$^{-2}$]")


class XpSampledSpectrum(_Kind):
    """Internal spectra."""

    units = dict.fromkeys(("flux", "flux_error", "standard_deviation"), "electron/s") | {"pos": "pwl"}
    labels = ("Pseudo-wavelength", r"Flux [e$^-$ s$^{-1}$]")


def calibrate(
    input_object: AnyInput,
    sampling: ArrayLike | None = None,
    truncation: bool = False,
    output_path: str | Path = ".",
    output_file: str = "output_spectra",
    output_format: str | None = None,
    save_file: bool = True,
    with_correlation: bool = False,
    username: str | None = None,
    password: str | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Absolute spectra [W nm-1 m-2] on wavelengths [nm] in 330..1050, by default the archive's 343: frame and sampling.

    A row has source_id, flux, flux_error and, with_correlation, the strict lower triangle of their correlations.
    Raises ValueError for a sampling that descends or goes beyond the limits, and as `read_input` does.
    """
    return _calibrate(
        input_object,
        sampling,
        truncation,
        output_path,
        output_file,
        output_format,
        save_file,
        with_correlation,
        username,
        password,
    )


def _calibrate(
    input_object: Any,
    sampling: Any = None,
    truncation: bool = False,
    output_path: str | Path = ".",
    output_file: str = "output_spectra",
    output_format: str | None = None,
    save_file: bool = True,
    with_correlation: bool = False,
    username: str | None = None,
    password: str | None = None,
    bp_model: str = "v375wi",
    rp_model: str = "v142r",
    disable_info: bool = False,
) -> tuple[pd.DataFrame, np.ndarray]:
    """`calibrate`, with a choice of the instrument model."""
    model = load_instrument(f"{bp_model}/{rp_model}")  # an unknown one is told before anything is read
    if sampling is not None:
        limits = f"{XP_RANGE[0]:g}..{XP_RANGE[1]:g} nm"
        if sampling[0] >= sampling[-1]:
            raise ValueError(
                f"sampling must ascend: it runs from {sampling[0]:g} to {sampling[-1]:g} nm; sort it first"
            )
        if sampling[0] < XP_RANGE[0] or sampling[-1] > XP_RANGE[1]:
            raise ValueError(f"sampling {sampling[0]:g}..{sampling[-1]:g} nm goes beyond {limits}")
    check_saving(save_file, output_file, "output_spectra", output_format)
    given = read_input(input_object, truncation=truncation, username=username, password=password)
    if not given.sources.release.fits(model.release):  # the models that are named are DR3's
        model = load_instrument(release=given.sources.release)
    frame = _absolute(given, model, sampling, truncation, with_correlation)
    positions = model.wavelength.copy() if sampling is None else sampling
    save(frame, save_file, output_path, output_file, output_format or given.extension, positions)
    return frame, positions


def _absolute(given: Input, model: Instrument, sampling: Any, truncation: bool, with_correlation: bool) -> pd.DataFrame:
    import pandas as pd

    found, places = _sample("calibrate", given, sampling, truncation, with_correlation, instrument=model)
    if is_strict() and np.any((found.status & BOTH_MISSING) == BOTH_MISSING):
        raise NoBandsAvailableError("a source has neither BP nor RP")
    data = {"source_id": found.source_id, "flux": _rows(found.flux[:, places])}
    assert found.flux_error is not None
    data["flux_error"] = _rows(found.flux_error[:, places])
    if with_correlation:
        packed = found.correlation
        if is_strict():
            packed = _column_scaled(given, model, found, truncation)
        data["correlation"] = _rows(_at_places(packed, places, len(found.wavelength)))
    frame = pd.DataFrame(data)
    frame.attrs["data_type"] = CalibrationAbsoluteSampledSpectrum
    return frame


def convert(
    input_object: AnyInput,
    sampling: np.ndarray | None = INTERNAL_GRID,
    truncation: bool = False,
    with_correlation: bool = False,
    output_path: str | Path = ".",
    output_file: str = "output_spectra",
    output_format: str | None = None,
    save_file: bool = True,
    username: str | None = None,
    password: str | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Internal spectra [e-/s] on pseudo-wavelengths in -10..70, by default 600 on 0..60: frame and sampling.

    Two rows a source, BP and RP, with source_id, xp, flux, flux_error and, with_correlation, correlation and
    standard_deviation; None where the band is missing. Raises ValueError or TypeError for a bad sampling.
    """
    if sampling is None or len(sampling) == 0:
        raise ValueError("sampling must have at least one pseudo-wavelength")
    if not isinstance(sampling, np.ndarray):
        raise TypeError(f"sampling must be a NumPy array, not a {type(sampling).__name__}")
    if np.any(np.diff(sampling) < 0):
        raise ValueError("sampling must ascend; sort it first")
    check_saving(save_file, output_file, "output_spectra", output_format)
    given = read_input(input_object, truncation=truncation, username=username, password=password)
    frame = _internal(given, sampling, truncation, with_correlation)
    save(frame, save_file, output_path, output_file, output_format or given.extension, sampling)
    return frame, sampling


def _internal(given: Input, sampling: np.ndarray, truncation: bool, with_correlation: bool) -> pd.DataFrame:
    import pandas as pd

    found, places = _sample("convert", given, sampling, truncation, with_correlation, internal=True)
    assert found.flux_error is not None
    xps = found.release.xp
    there = ~np.isnan(found.flux[..., 0]).ravel()
    data: dict[str, Any] = {
        "source_id": np.repeat(found.source_id, len(xps)),
        "xp": np.tile([xp.upper() for xp in xps], len(found)),
        "flux": _rows(found.flux[..., places], there),
        "flux_error": _rows(found.flux_error[..., places], there),
    }
    if with_correlation:
        data["correlation"] = _rows(_at_places(found.correlation, places, len(found.wavelength)), there)
        data["standard_deviation"] = np.where(there, given.deviation.ravel(), np.nan)
    frame = pd.DataFrame(data)
    frame.attrs["data_type"] = XpSampledSpectrum
    return frame


def _sample(
    key: str, given: Input, sampling: Any, truncation: bool, correlation: bool, **options: Any
) -> tuple[Spectra, Any]:
    """Spectra on the ascending grid of all samples, and where in it each sample is: GaiaXPy takes repeated ones."""
    grid, places = None, None
    if sampling is not None:
        grid, places = np.unique(np.asarray(sampling, float), return_inverse=True)
    with progress_bar(key, len(given.sources)) as advance:
        found = sample(
            given.sources,
            grid,
            truncate=truncation,
            correlation=correlation,
            float64=is_float64(),
            progress=advance,
            **options,
        )
    if places is None or np.array_equal(places, np.arange(len(found.wavelength))):
        return found, slice(None)
    return found, places


def _rows(array: np.ndarray, there: np.ndarray | None = None) -> np.ndarray:
    """The last axis of an array as float64 cells (n,), None where it is not there."""
    rows = np.asarray(array, np.float64).reshape(-1, array.shape[-1])
    return objects(rows if there is None else [row if ok else None for row, ok in zip(rows, there, strict=True)])


def _at_places(packed: np.ndarray | None, places: Any, n: int) -> np.ndarray:
    """Packed correlations (..., n_pair) between samples that may repeat."""
    assert packed is not None
    if isinstance(places, slice):
        return packed
    index = np.full((n, n), n * (n - 1) // 2)
    rows, columns = np.tril_indices(n, -1)
    index[rows, columns] = index[columns, rows] = np.arange(len(rows))
    rows, columns = np.tril_indices(len(places), -1)
    ends = np.ones((*packed.shape[:-1], 1), packed.dtype)
    return np.concatenate([packed, ends], axis=-1)[..., index[places[rows], places[columns]]]


def _column_scaled(given: Input, model: Instrument, found: Spectra, truncation: bool) -> np.ndarray:
    """GaiaXPy's correlations of merged spectra, from sum K_ij w_j / s^2: weights on columns, s of each XP's fit."""
    grid = found.wavelength
    default = len(grid) == len(model.wavelength) and np.array_equal(grid, model.wavelength)
    weight = model.default_weight if default else merge_weights(grid, model.merge_range)
    merged = model.design(None if default else grid).value
    design = np.zeros_like(merged)
    for rows, share in zip(model.release.slices, weight, strict=True):
        np.divide(merged[rows], share, out=design[rows], where=share > 0)
    c = given.sources.coefficients
    source = XPCoefficients(c.value, c.error, c.correlation, c.n_relevant if truncation else None, c.release)
    constants = {"design": design, "weight": weight}
    kernel = _column_scaled_kernel(truncation)
    sources = (source, given.deviation)
    packed = engine.run(kernel, constants, sources, float64=True, work_bytes=32 * len(grid) ** 2)
    alone = np.isnan(found.flux[:, 0]) | np.isnan(found.flux[:, -1])
    packed[alone] = found.correlation[alone]  # type: ignore[index]  # nothing to merge
    return packed


@functools.cache
def _column_scaled_kernel(truncate: bool) -> engine.Kernel:
    import jax.numpy as jnp

    def kernel(constants: dict[str, Any], given: tuple[XPCoefficients, Any]) -> Any:
        source, deviation = masked(given[0], truncate), given[1]
        total: Any = 0
        for k, rows in enumerate(source.release.slices):
            block = constants["design"][rows]
            total += dot(block.T, dot(covariance(source, k), block)) * constants["weight"][k] / deviation[k] ** 2
        sigma = jnp.sqrt(jnp.diagonal(total))
        return pack(total / sigma[:, None] / sigma[None, :])

    return kernel


def check_saving(save_file: Any, output_file: str, default: str, output_format: str | None) -> None:
    """ValueError for a save_file that is no bool; a warning where a name or a format is given and nothing saved."""
    if save_file and not isinstance(save_file, bool):
        raise ValueError(f"save_file must be True or False, not {save_file!r}")
    for name, given in (("output_file", output_file != default), ("output_format", output_format is not None)):
        if given and not save_file:
            warn(f"{name} has no effect with save_file=False")


def warn(message: str) -> None:
    """A UserWarning on standard error, where GaiaXPy writes its own."""
    sys.stderr.write(f"{UserWarning.__name__}: {message}\n")


# --- dispersion -------------------------------------------------------------------------------------------------------


def limits(band: str, release: Release) -> tuple[float, float]:
    """Wavelengths [nm] between which a band's dispersion is known."""
    if release.fits(DR3):
        return {"bp": (330, 643), "rp": (635, 1020)}[_band(band)]
    model = load_instrument(release=release)
    low, high = float(model.wavelength_range[0]), float(model.wavelength[-1])
    return {"bp": (low, model.merge_range[1]), "rp": (model.merge_range[0], high)}[_band(band)]


def _band(band: str) -> str:
    if band.lower() not in DR3.xp:
        raise ValueError(f"no band {band!r}; choose 'BP' or 'RP'")
    return band.lower()


def dispersed(band: str, x: Any, release: Release, inverse: bool = False) -> np.ndarray:
    """Pseudo-wavelengths of wavelengths [nm], or the inverse: linear between samples of a release's table, and on."""
    from scipy.interpolate import make_interp_spline

    a, b = dispersion(release)[_band(band)][:: -1 if inverse else 1]
    order = np.argsort(a)
    return make_interp_spline(a[order], b[order], k=1)(np.asarray(x, float))


def pwl_to_wl(band: str, pwl: ArrayLike) -> np.ndarray:
    """Wavelengths [nm] of pseudo-wavelengths of a band, linear between the samples of the dispersion table."""
    return dispersed(band, pwl, DR3, inverse=True)


def wl_to_pwl(band: str, wl: ArrayLike) -> np.ndarray:
    """Pseudo-wavelengths of a band at wavelengths [nm], linear between the samples of the dispersion table."""
    return dispersed(band, wl, DR3)


def pwl_range(band: str) -> list[float]:
    """Pseudo-wavelengths at the ends of `wl_range`."""
    return [float(wl_to_pwl(band, wavelength)) for wavelength in wl_range(band)]


def wl_range(band: str) -> list[float]:
    """The wavelengths [nm] between which a band's dispersion is not extrapolated."""
    return [*limits(band, DR3)]
