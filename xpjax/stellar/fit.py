"""Stellar labels of many spectra in one batch, with covariance and status."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias, TypedDict

import jax
import numpy as np
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import triangle_index
from xpjax.core.status import FitStatus
from xpjax.core.units import in_unit
from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.stellar.chi2 import Noise, Spread, seen_with
from xpjax.stellar.dust import dust_exponent
from xpjax.stellar.grid import LEAST_FLOOR, StellarGrid
from xpjax.stellar.interpolation import Interpolator, interpolate_grid
from xpjax.stellar.kernel import Common, Model, Options, Star, fit_kernel
from xpjax.stellar.libraries.library import UNITS
from xpjax.stellar.posterior import sample_posterior
from xpjax.stellar.results import StellarFit
from xpjax.stellar.search import make_search
from xpjax.xp import XPCoefficients

NORMALIZATIONS = ("mean", "scale")
Priors: TypeAlias = Mapping[str, tuple[ArrayLike, ArrayLike]] | None
"""Gaussian priors by label: means and sigmas, numbers or (n,) arrays."""
MORE_ROUNDS = 8
"""Rounds of further steps for the few stars that need more."""
DOUBTED_ROUNDS = 3
"""Rounds of steps where a grid is doubted, anew at each place: with one 0.6 % of NextGen's mocks end beyond 8 sigma."""
ODD, MORE_STARTS, MORE_PLACES = 4.0, 12, 16_384
"""Standard deviations of chi2 beyond which stars are looked at again where a grid is doubted; from how many starts, the
best of how many places."""
FIRST = 9
"""Columns of the smooth flux that errors common to stars are fractions of: the mean spectrum and eight components."""


class FitOptions(TypedDict, total=False):
    """Options of `fit_labels`."""

    correlation: ArrayLike | Noise | None
    error_floor: float
    normalization: str
    continuum_order: int
    ebv: ArrayLike | None
    law: str
    r_v: float
    per_ebv: float
    priors: Priors
    used: ArrayLike | None
    systematic: bool
    doubt: bool
    spread: Spread | None
    starts: int
    spectra: bool
    posterior: int
    float64: bool
    devices: engine.Devices
    progress: engine.Progress | None


def fit_labels(
    flux: ArrayLike,
    error: ArrayLike,
    model: Interpolator | StellarGrid,
    *,
    correlation: ArrayLike | Noise | None = None,
    error_floor: float = 0.0,
    normalization: str = "mean",
    continuum_order: int = 0,
    ebv: ArrayLike | None = None,
    law: str = "ccm89",
    r_v: float = R_V,
    per_ebv: float = AV_PER_SFD,
    priors: Priors = None,
    used: ArrayLike | None = None,
    systematic: bool = True,
    doubt: bool = True,
    spread: Spread | None = None,
    starts: int = 3,
    spectra: bool = False,
    posterior: int = 0,
    float64: bool = False,
    devices: engine.Devices = None,
    progress: engine.Progress | None = None,
) -> StellarFit:
    """Fit stellar labels to spectra that are sampled at the wavelengths of a grid.

    Parameters
    ----------
    flux, error, model : (n, n_wavelength) arrays, and StellarGrid or Interpolator
        Spectra in any unit of flux, their standard errors, and model spectra.
    correlation, error_floor : (n, n_pair) array or `Noise`, and float, optional
        Correlations between samples, packed as by `xpjax.spectra`, or those that the noise of XP coefficients has
        there, as `LabelFitter` gives them; and the fraction of the flux that is added to the errors in quadrature,
        which correlations need, and with these at least of 1 % of the mean flux.
    normalization, continuum_order : {"mean", "scale"} and int, optional
        Divide data and models by their means over the samples used, or fit the amplitude, times a polynomial in
        wavelength of this order.
    ebv, law, r_v, per_ebv : (n,) array, str and floats, optional
        E(B-V) [mag] that spectra are freed from first (or see `redden`), law, its R_V, A_V / E(B-V) at R_V = 3.1.
    priors : mapping of str to (mean, sigma), optional
        Gaussian priors by label, numbers or (n,) arrays; NaN for no prior.
    used, systematic, doubt, spread : (n_wavelength,) or (n, n_wavelength) array of bool, bools, and `Spread`, optional
        Samples that are fitted; whether errors of `StellarGrid` (systematic, doubt) enter; coefficients' errors.
    starts, spectra, posterior, float64, devices, progress : optional
        Minima from which the fit descends; return the best-fit models too; draws of each star's labels from their
        posterior, 0.2 s a star; compute in float64; devices as for `xpjax.photometry`; called with the stars done.

    Returns
    -------
    StellarFit
        Labels, covariances, chi2 and status; NaN and BAD_INPUT for a star that cannot be fitted.

    Raises
    ------
    XpjaxError
        If shapes, names or options do not fit.

    Notes
    -----
    Minimizes (O - N)' W (O - N) + sum ((x - prior) / sigma)^2 of normalized flux O and the interpolated model N(x);
    W^-1 = F + sum_k (A_k N) (A_k N)' + D'D of the noise's covariance F, templates A common to stars, and doubt D.

    Examples
    --------
    >>> x, teff = np.arange(340.0, 1010.0, 10.0), np.array([4000.0, 6000.0])
    >>> grid = xpjax.stellar.StellarGrid((teff,), 1 - (x - 670) / teff[:, None], x, ("teff",))
    >>> fit = xpjax.stellar.fit_labels(grid.flux.mean(axis=0)[None], 0.01 * np.ones((1, 67)), grid)
    >>> print(fit.labels.round(1))
    [[5000.]]
    """
    grid = model if isinstance(model, Interpolator) else interpolate_grid(model)
    amplitudes = _checked(grid, normalization, continuum_order, starts, error_floor, ebv is not None, posterior)
    options = Options(amplitudes, starts, spectra, grid.of_coefficients)
    star = _stars(grid, flux, error, correlation, used, ebv, priors, spread)
    dust = _exponent(grid, per_ebv * (ebv is not None), law, r_v)
    shared = prepare(grid, max(amplitudes, 1), dust, error_floor, systematic, doubt)
    seen = seen_with(correlation.reach, np.asarray(shared.columns)) if isinstance(correlation, Noise) else None
    shared = dataclasses.replace(shared, seen=seen, reach=None if spread is None else spread.reach)
    return StellarFit(grid.names, **_run(options, shared, star, posterior, float64, devices, progress))


def _exponent(grid: Interpolator, per_ebv: float, law: str, r_v: float) -> np.ndarray:
    """What frees a spectrum from dust, as the exponent that E(B-V) is multiplied by."""
    x = np.asarray(grid.wavelength)
    return dust_exponent(x, law, r_v, per_ebv) if per_ebv else np.zeros(len(x))


def _run(
    options: Options,
    shared: Model,
    star: Star,
    posterior: int,
    float64: bool,
    devices: engine.Devices,
    progress: engine.Progress | None,
) -> dict[str, np.ndarray]:
    # Of correlated samples what is alike in all of them cancels, more than float32 bears.
    wide = float64 or star.correlation is not None
    size = work_bytes(shared, options.starts, star.correlation is not None) * (1 + wide)
    rows = engine.rows_of_batch(len(star.flux), size, devices)
    settings: dict[str, Any] = {"float64": wide, "devices": devices, "batch_rows": rows}
    out = engine.run(fit_kernel(options), shared, star, progress=progress, **settings)
    # Few stars need more steps: along edges of the grid, in long valleys. The same program does them.
    again = np.flatnonzero(out["status"] & FitStatus.NO_CONVERGENCE)
    if len(again):
        shared = dataclasses.replace(shared, rounds=np.asarray(MORE_ROUNDS, np.int32))
        rest = jax.tree.map(lambda x: x[again], star)
        for name, values in engine.run(fit_kernel(options), shared, rest, **settings).items():
            out[name][again] = values
    if shared.grid.doubt is not None:
        _looked_again(options, shared, star, out, settings)
    if posterior:
        how: dict[str, Any] = {"float64": wide, "devices": devices}
        out |= sample_posterior(options, shared, star, out["labels"], posterior, **how)
    return out if float64 == wide else {k: x.astype("f4") if x.dtype == "f8" else x for k, x in out.items()}


def _looked_again(
    options: Options, shared: Model, star: Star, out: dict[str, np.ndarray], settings: dict[str, Any]
) -> None:
    """Fit anew, from more starts of a finer search, stars whose chi2 even the doubts of the grid do not explain.

    Grids that need doubting are rough: between a star and its place may be models that fit worse than some far away.
    """
    excess = (out["chi2"] - out["dof"]) / np.sqrt(2 * np.maximum(out["dof"], 1))
    odd = np.flatnonzero(excess > ODD)
    if not len(odd):
        return
    shared = dataclasses.replace(
        shared, rounds=np.asarray(MORE_ROUNDS, np.int32), search=make_search(shared.grid, MORE_PLACES)
    )
    options = options._replace(starts=max(options.starts, MORE_STARTS))
    rest = jax.tree.map(lambda x: x[odd], star)
    found = engine.run(fit_kernel(options), shared, rest, **settings)
    deeper = found["chi2"] < out["chi2"][odd]
    for name, values in found.items():
        out[name][odd[deeper]] = values[deeper]


def _checked(
    grid: Interpolator,
    normalization: str,
    continuum_order: int,
    starts: int,
    error_floor: float,
    dereddened: bool,
    posterior: int,
) -> int:
    """How many amplitudes are fitted. Raises XpjaxError for options that do not go together."""
    scale = normalization == "scale"
    if normalization not in NORMALIZATIONS:
        raise XpjaxError(f"no normalization {normalization!r}; choose from {NORMALIZATIONS}")
    if continuum_order < 0 or (continuum_order and not scale):
        raise XpjaxError(f"continuum_order={continuum_order}: a continuum is fitted with normalization='scale' only")
    if posterior < 0:
        raise XpjaxError(f"posterior={posterior}: give the number of draws, such as 200")
    if starts < 1:
        raise XpjaxError(f"starts={starts}: at least one is needed")
    if not error_floor >= 0:
        raise XpjaxError(f"error_floor={error_floor}: give a fraction of the flux, zero or more")
    if grid.of_coefficients and (not scale or continuum_order or dereddened):
        raise XpjaxError("XP coefficients are fitted with normalization='scale', without a continuum and without ebv")
    return (continuum_order + 1) * scale


def _stars(
    grid: Interpolator,
    flux: Any,
    error: Any,
    correlation: Any,
    used: Any,
    ebv: Any,
    priors: Priors,
    spread: Spread | None,
) -> Star:
    """The stars as arrays, one row a star. Raises XpjaxError for shapes that do not fit the grid."""
    n_wavelength, unit = len(grid.wavelength), str(getattr(flux, "unit", None) or "")
    flux = _plain(flux)
    if flux.ndim != 2 or flux.shape[1] != n_wavelength:
        raise XpjaxError(f"flux must be (n, {n_wavelength}) at the wavelengths of the grid, found {flux.shape}")
    n = len(flux)
    return Star(
        flux,
        _rows("error", in_unit(error, unit, "error"), flux.shape),
        _correlation(correlation, n, n_wavelength),
        None if used is None else _rows("used", used, flux.shape).astype(bool),
        None if ebv is None else _rows("ebv", in_unit(ebv, "mag", "E(B-V)"), (n,)),
        *_priors(priors, grid.names, n),
        None if spread is None else _spread(spread, correlation, n),
    )


def _correlation(given: Any, n: int, n_wavelength: int) -> np.ndarray | XPCoefficients | None:
    """Correlations, or the coefficients whose noise samples have, one row a star. Raises XpjaxError."""
    if not isinstance(given, Noise):
        return None if given is None else _rows("correlation", given, (n, n_wavelength * (n_wavelength - 1) // 2))
    reaches = max(stop for _, stop in given.reach.support)
    if len(given.source.value) != n or reaches > n_wavelength or not given.source.has_covariance:
        raise XpjaxError(
            f"noise of {len(given.source.value)} sources on {reaches} samples, expected {n} with "
            f"covariances, on {n_wavelength}"
        )
    return given.source


def _spread(spread: Spread, correlation: Any, n: int) -> np.ndarray:
    """Errors of coefficients, one row a star. Raises XpjaxError for shapes that do not fit."""
    n_coefficient = sum(len(matrix) for matrix in spread.reach.matrix)
    if correlation is not None or np.shape(spread.error) != (n, n_coefficient):
        raise XpjaxError(f"spread must have errors ({n}, {n_coefficient}), and is for errors without correlations")
    return np.asarray(spread.error)


def _plain(array: Any) -> np.ndarray:
    """Floats on the host, with NaN for masked entries; one array a row is how pandas and Arrow hold vectors."""
    array = np.ma.filled(np.ma.asarray(array, float), np.nan) if np.ma.isMaskedArray(array) else np.asarray(array)
    if array.dtype == object and array.ndim == 1 and len({np.shape(row) for row in array}) == 1:
        array = np.stack(array)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(float)


def _rows(name: str, array: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape, one row a star; one row may stand for all."""
    array = np.asarray(array) if name == "used" else _plain(array)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise XpjaxError(f"{name} must be {shape}, one row a star, found {array.shape}") from None


def _priors(priors: Priors, names: tuple[str, ...], n: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Means and inverse sigmas (n, n_label); zero where there is no prior."""
    if not priors:
        return None, None
    unknown = [name for name in priors if name not in names]
    if unknown:
        raise XpjaxError(f"no labels {unknown} in the grid; it has {names}")
    mean, inverse = np.zeros((n, len(names))), np.zeros((n, len(names)))
    for name, (center, sigma) in priors.items():
        center, sigma = (in_unit(x, UNITS.get(name, ""), f"prior of {name}") for x in (center, sigma))
        center, sigma = _rows(f"prior of {name}", center, (n,)), _rows(f"sigma of {name}", sigma, (n,))
        if np.any(sigma <= 0):
            raise XpjaxError(f"the prior of {name} has a sigma that is not positive; hold no label fixed that way")
        known = np.isfinite(center) & np.isfinite(sigma)
        column = names.index(name)
        mean[known, column], inverse[known, column] = center[known], 1 / sigma[known]
    return mean, inverse


def prepare(
    grid: Interpolator,
    n_continuum: int,
    exponent: np.ndarray,
    error_floor: float,
    systematic: bool = True,
    doubt: bool = True,
) -> Model:
    """The constants of the kernel, on the host in float64."""
    wavelength = np.asarray(grid.wavelength, float)
    x = 2 * (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0]) - 1
    own = np.concatenate([grid.mean[None], grid.basis])
    columns = np.concatenate([np.polynomial.Legendre.basis(k)(x) * own for k in range(n_continuum)])
    products = (columns[:, None] * columns).reshape(-1, len(wavelength)).T
    doubt &= grid.doubt is not None
    least = [grid.systematic_floor] * (systematic and grid.systematic_variance is not None) + [LEAST_FLOOR] * doubt
    numbers = np.asarray(max([error_floor, *least])), np.asarray(DOUBTED_ROUNDS if doubt else 1, np.int32)
    search, common = make_search(grid), None
    if systematic and grid.systematic is not None:
        # Amplitudes about one, and components of any of the places.
        rare = 1 / np.append(1.0, np.mean(np.asarray(search.t)[:, 1:FIRST] ** 2, axis=0))
        templates = np.concatenate([np.asarray(grid.systematic, float), np.ones((1, len(wavelength)))])
        by_column = (templates[:, None] * columns).reshape(-1, len(wavelength)).T
        rows, others = triangle_index(len(templates))
        by_template = np.ascontiguousarray((templates[rows] * templates[others]).T)
        variance = None if grid.systematic_variance is None else np.asarray(grid.systematic_variance, float)
        active = None if variance is None else _active(variance)
        common = Common(templates, by_column, by_template, rare, wavelength, variance, active)
    # The kernel takes the templates from here alone.
    plain = dataclasses.replace(grid, systematic=None, systematic_variance=None)
    if not doubt:
        plain = dataclasses.replace(plain, doubt=None, bent=None, doubted=())
    return Model(plain, columns, products, search, exponent, *numbers, common=common)


def _active(variance: np.ndarray) -> np.ndarray:
    """Between each two rows of variances by color which are not zero (n_row - 1, n_active); others fill up rows."""
    above, below = (variance[:-1], variance[1:]) if len(variance) > 1 else (variance, variance)
    some = (above[:, 1:] > 0) | (below[:, 1:] > 0)
    n = some.sum(axis=1).max()
    # Those that count come first, in their order.
    return np.sort(np.argsort(~some, axis=1, kind="stable")[:, :n], axis=1).astype(np.int32)


def work_bytes(model: Model, starts: int, correlated: bool) -> int:
    """Size of the intermediates of one star in float32."""
    n_column, n_wavelength = model.columns.shape
    numbers = 2 * len(model.search.labels) + 2 * n_column**2 + starts * model.grid.block_size + 6 * n_wavelength
    if model.common is not None:
        numbers += len(model.common.templates) * (5 * n_wavelength + 2 * n_column)
    if model.reach is not None and model.common is not None:
        numbers += 2 * len(model.common.templates) * sum(len(matrix) for matrix in model.reach.matrix)
    if not correlated:
        return 4 * numbers
    if model.seen is None:
        return 4 * (numbers + n_wavelength * (4 * n_wavelength + n_column))
    p = sum(len(matrix) for matrix in model.seen.reach.matrix)
    return 4 * (numbers + p * (6 * p + 4 * n_column))
