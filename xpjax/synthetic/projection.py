"""From transmission curves to projections on coefficients, magnitudes of any spectrum, and zero points.

A passband sees the mean flux

    AB        int f T l^p dl / (c int T l^(p-2) dl)   [W m-2 Hz-1],  zero point -56.10
    ST, Vega  int f T l^p dl / int T l^p dl           [W m-2 nm-1],  zero point -26.10, or of alpha Lyr

with l the wavelength and p = 1 for detectors that count photons, 0 for those that count energy. The numerator is a
product with the coefficients, r = int T l^p D(l) dl over 330..1050 nm (D the absolute design matrix); the denominator
is taken over the whole curve, so that light outside XP is missed, not guessed (Montegriffo et al. 2023, A&A 674 A33).

Between its samples a curve is a local cubic, and integrals are exact. The published projection vectors were made so:
straight lines between samples 1 nm apart, or sums over them, depart by up to 4e-3 from them. The cubic is linear in the
samples: fluxes are additive, and the gradient with respect to a curve is a constant matrix.

Blue extrapolation, on request: the spectrum within 322..336 nm is the straight line fitted to it within 336..382 nm.
It is linear in the spectrum, hence in the coefficients.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.constants import AB_ZERO_POINT, MERGE_RANGE, POGSON, SPEED_OF_LIGHT, ST_ZERO_POINT, VEGA_FLUX, XP_RANGE
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import dot, interpolation
from xpjax.core.records import AnyArray
from xpjax.core.units import FLUX, in_unit, nanometers
from xpjax.synthetic.chain import TransmissionChain, read_chain
from xpjax.synthetic.files.passband_files import find_passbands, read_passbands
from xpjax.synthetic.passband import Passband, PassbandSet
from xpjax.synthetic.system import PhotometricSystem, available_systems, from_projection, select_bands, stack
from xpjax.xp import FADE, STANDARD, Instrument, LinearCorrection, load_correction
from xpjax.xp import load_instrument as load_instrument

STEP = 0.25
"""Longest piece [nm] of the quadrature: at 330 nm the design matrix changes within 1 nm."""
BLUE_FIT = np.arange(336.0, 382.1, 2.0)
"""Samples [nm] of the straight line that extends a spectrum to the blue."""
BLUE_RANGE = (322.0, 336.0)
"""Where that line stands in for the spectrum [nm]."""
EXTRAPOLATE = ("none", "linear")
LIT = 0.45
"""Flux in a band over the star's level below which it has only a share of a linear correction's change, which ends at
none: below, S-PLUS's F378 of K stars does not show what the correction says; above are all stars that it learned from.
"""
MOSTLY = 0.5
"""A passband with more than this share outside XP is refused unless asked for."""


class PassbandOperator(eqx.Module):
    """What maps transmission samples T (n,) to a projection vector: `response @ T / (norm @ T)`.

    response (n_basis_total, n), norm (n,); constant for a grid, so that magnitudes can be differentiated with respect
    to the samples, or to anything that makes them.
    """

    response: Float[AnyArray, "n_basis_total n"]
    norm: Float[AnyArray, " n"]

    def projection(self, transmission: AnyArray) -> Float[Array, " n_basis_total"]:
        """The projection vector (n_basis_total,) of transmission samples (n,): mean flux = coefficients @ vector."""
        return dot(self.response, transmission) / dot(self.norm, transmission)


def passband_operator(
    wavelength: np.ndarray,
    *,
    detector: str = "photon",
    magnitude: str = "AB",
    instrument: Instrument | None = None,
    extrapolate: str = "none",
) -> PassbandOperator:
    """The operator of all passbands on one wavelength grid (n,) [nm], in NumPy float64.

    detector, magnitude: as in `Passband`; extrapolate "none" or "linear". See the module's equations.
    """
    model = instrument or load_instrument()
    wavelength = np.asarray(nanometers(wavelength), float)
    x, weights, samples = quadrature(wavelength, (*XP_RANGE, *MERGE_RANGE, *BLUE_RANGE))
    power = _power(detector)
    response = np.zeros((model.release.n_basis_total, len(wavelength)))
    for part, design in _design_parts(x, model, check_extrapolate(extrapolate)):
        response += (samples[part].T @ (design * (x[part] ** power * weights[part])).T).T
    ab = magnitude == "AB"
    norm = samples.T @ (x ** (power - 2 * ab) * weights)
    return PassbandOperator(response, norm * (1e9 * SPEED_OF_LIGHT if ab else 1.0))


def check_extrapolate(extrapolate: str | None) -> str:
    """The name of a way to extrapolate; None is "none". Raises ValueError for another."""
    name = extrapolate or "none"
    if name not in EXTRAPOLATE:
        raise XpjaxError(f"extrapolate {extrapolate!r} is not one of {EXTRAPOLATE}")
    return name


def _power(detector: str) -> int:
    return 1 if detector == "photon" else 0


def _design_parts(grid: np.ndarray, model: Instrument, extrapolate: str) -> list[tuple[slice, np.ndarray]]:
    """Stretches of the nodes that XP sees, each with its design matrix (n_basis_total, n_part) [W m-2 nm-1]."""
    start = BLUE_RANGE[1] if extrapolate == "linear" else XP_RANGE[0]
    parts = []
    inside = _between(grid, start, XP_RANGE[1])
    if inside.stop > inside.start:
        parts.append((inside, _design(model, grid[inside])))
    blue = _between(grid, *BLUE_RANGE)
    if extrapolate == "linear" and blue.stop > blue.start:
        parts.append((blue, _design(model, BLUE_FIT) @ _line(grid[blue]).T))
    return parts


def _design(model: Instrument, wavelength: np.ndarray) -> np.ndarray:
    design = model.design(wavelength)
    return np.asarray(design.value) * np.asarray(design.scale)


def _line(wavelength: np.ndarray) -> np.ndarray:
    """Weights (n, n_fit) that give, at wavelengths (n,), the least-squares line through samples on BLUE_FIT."""
    center = BLUE_FIT.mean()
    basis = np.stack([np.ones(len(BLUE_FIT)), BLUE_FIT - center])
    return np.stack([np.ones(len(wavelength)), wavelength - center], axis=1) @ np.linalg.pinv(basis.T)


def _between(grid: np.ndarray, low: float, high: float) -> slice:
    return slice(int(np.searchsorted(grid, low)), int(np.searchsorted(grid, high, side="right")))


def quadrature(wavelength: np.ndarray, breaks: Sequence[float] | np.ndarray = ()) -> tuple[np.ndarray, np.ndarray, Any]:
    """Nodes (m,), weights (m,) and the sparse matrix (m, n) from samples at wavelengths (n,) [nm] to the nodes.

    int T g dl = weights @ ((matrix @ T) * g(nodes)): three Gauss-Legendre nodes on every interval, which are first
    divided at the breaks [nm], where g may have a corner or an end, and into pieces of at most 0.25 nm.
    """
    x = np.asarray(wavelength, float)
    # Wavelengths made from Angstrom are a rounding away from whole numbers.
    within = [b for b in breaks if x[0] < b < x[-1] and np.abs(x - b).min() > 1e-6]
    ends = np.unique(np.concatenate([x, within]))
    pieces = [
        np.linspace(a, b, max(int(np.ceil((b - a) / STEP - 1e-6)), 1) + 1)[:-1] for a, b in itertools.pairwise(ends)
    ]
    ends = np.concatenate([*pieces, ends[-1:]])
    node, weight = np.polynomial.legendre.leggauss(3)
    half = 0.5 * np.diff(ends)[:, None]
    nodes = (0.5 * (ends[:-1] + ends[1:])[:, None] + half * node).ravel()
    return nodes, (half * weight).ravel(), interpolation(x, nodes)


def band_weights(band: Passband, breaks: Sequence[float] | np.ndarray = ()) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (m,) [nm] and weights (m,): mean flux [band.flux_unit] = weights @ f(nodes), f in W m-2 nm-1.

    breaks as in `quadrature`; the norm is that of the whole curve.
    """
    x, weights, samples = quadrature(band.wavelength, breaks)
    weight = (samples @ band.transmission) * x ** _power(band.detector) * weights
    norm = np.sum(weight * x**-2.0) * 1e9 * SPEED_OF_LIGHT if band.magnitude == "AB" else np.sum(weight)
    return x, weight / norm


def _moments(band: Passband, *powers: float) -> tuple[float, ...]:
    """int T l^power dl over the whole curve, for each power."""
    x, weights, samples = quadrature(band.wavelength)
    curve = (samples @ band.transmission) * weights
    return tuple(float(curve @ x**power) for power in powers)


def share_outside(band: Passband, extrapolate: str | None = None) -> float:
    """Share (0..1) of the photon-weighted integral int T l dl that lies outside 330..1050 nm, where XP does not see.

    With extrapolate="linear" outside 322..1050 nm.
    """
    low = BLUE_RANGE[0] if check_extrapolate(extrapolate) == "linear" else XP_RANGE[0]
    x, weights, samples = quadrature(band.wavelength, (low, XP_RANGE[1]))
    light = (samples @ band.transmission) * x * weights
    return float(np.clip(1 - light[_between(x, low, XP_RANGE[1])].sum() / light.sum(), 0.0, 1.0))


def cut_off(band: Passband) -> float:
    """Share (0..1) of a published band that its recovered curve, within 330..1050 nm, lacks; 0 of other curves.

    The zero point makes up for it: magnitudes are as published, and fluxes are means over the part within.
    """
    inside = band.meta.get("inside") if band.meta.get("kind") == "recovered" else None
    return max(1 - inside, 0.0) if isinstance(inside, float) else 0.0


def mean_wavelength(band: Passband) -> float:
    """int T l dl / int T dl [nm]: of the curve alone, whatever the detector (as in the archive's tables)."""
    first, zeroth = _moments(band, 1, 0)
    return first / zeroth


def pivot_wavelength(band: Passband) -> float:
    """sqrt(int T l^p dl / int T l^(p-2) dl) [nm]: converts mean fluxes, f_nu = f_lambda l_pivot^2 / c."""
    p = _power(band.detector)
    upper, lower = _moments(band, p, p - 2.0)
    return float(np.sqrt(upper / lower))


def fwhm(band: Passband) -> float:
    """Full width [nm] between the outermost wavelengths where the curve crosses half its maximum."""
    low, high = band.wavelength[[0, -1]]
    grid = np.linspace(low, high, int(np.ceil((high - low) / STEP)) + 1)
    curve = interpolation(band.wavelength, grid) @ band.transmission
    half = 0.5 * curve.max()
    above = np.flatnonzero(curve >= half)
    first, last = int(above[0]), int(above[-1])
    low = grid[0] if first == 0 else np.interp(half, curve[first - 1 : first + 1], grid[first - 1 : first + 1])
    high = grid[-1]
    if last < len(grid) - 1:
        high = np.interp(half, curve[last : last + 2][::-1], grid[last : last + 2][::-1])
    return float(high - low)


def band_flux(band: Passband, wavelength: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """Mean flux (...,) [band.flux_unit] of sampled spectra (..., n) [W m-2 nm-1], linear between wavelengths (n,) [nm].

    Raises ValueError where the spectrum does not cover the curve's non-zero part.
    """
    wavelength = np.asarray(nanometers(wavelength), float)
    flux = np.asarray(in_unit(flux, FLUX, "flux"), float)
    positive = np.flatnonzero(band.transmission)
    low = band.wavelength[max(positive[0] - 1, 0)]
    high = band.wavelength[min(positive[-1] + 1, len(band.wavelength) - 1)]
    if wavelength.ndim != 1 or flux.shape[-1:] != wavelength.shape or np.any(np.diff(wavelength) <= 0):
        raise XpjaxError(
            f"spectrum: wavelengths must ascend, one for each flux; found {wavelength.shape}, {flux.shape}"
        )
    if wavelength[0] > low or wavelength[-1] < high:
        raise XpjaxError(
            f"the spectrum covers {wavelength[0]:g}..{wavelength[-1]:g} nm, "
            f"passband {band.name} needs {low:g}..{high:g}"
        )
    x, weight = band_weights(band, wavelength)
    within = weight != 0
    k = np.clip(np.searchsorted(wavelength, x[within], side="right") - 1, 0, len(wavelength) - 2)
    t = (x[within] - wavelength[k]) / (wavelength[k + 1] - wavelength[k])
    return (flux[..., k] * (1 - t) + flux[..., k + 1] * t) @ weight[within]


def vega_zero_point(
    band: Passband, wavelength: np.ndarray, flux: np.ndarray, magnitude: float = 0.0, flux_550: float | None = VEGA_FLUX
) -> float:
    """Zero point [mag] in which alpha Lyr has this magnitude: magnitude + 2.5 log10(mean flux).

    wavelength (n,) [nm], flux (n,): the user's spectrum of alpha Lyr, of the Kurucz type for Gaia's zero points, scaled
    to flux_550 [W m-2 nm-1] at 550.0 nm (Riello et al. 2021), or used as it is, in W m-2 nm-1, where that is None.
    """
    wavelength = np.asarray(nanometers(wavelength), float)
    flux = np.asarray(in_unit(flux, FLUX, "flux"), float)
    scale = 1.0 if flux_550 is None else flux_550 / np.interp(550.0, wavelength, flux)
    return float(magnitude + 2.5 * np.log10(band_flux(band, wavelength, flux * scale)))


def zero_point(band: Passband) -> float:
    """Zero point [mag] of a passband's mean flux. Raises ValueError for a Vega passband that has none of its own."""
    if band.zero_point is not None:
        return band.zero_point
    if band.magnitude == "Vega":
        raise XpjaxError(
            f"passband {band.name} has Vega magnitudes but no zero point: give `zero_point` in its header, derive one "
            "with xpjax.synthetic.projection.vega_zero_point from a spectrum of alpha Lyr, or use AB magnitudes "
            "(glossary: magnitude system)"
        )
    return AB_ZERO_POINT if band.magnitude == "AB" else ST_ZERO_POINT


def passband_system(
    passbands: PassbandSet | Passband,
    *,
    instrument: Instrument | None = None,
    extrapolate: str | None = None,
    allow_outside: bool = False,
    correction: Any = None,
) -> PhotometricSystem:
    """The photometric system of transmission curves: each becomes one projection on the coefficients.

    correction: a linear one, see `corrected_system`; by default the instrument's, if it has one. extrapolate="linear"
    extends spectra from 336 to 322 nm by a straight line; None leaves light outside 330..1050 nm out. Raises ValueError
    for a passband with more than half of its integral outside, unless allow_outside, for Vega passbands without zero
    points, and for extrapolating a recovered curve that is cut at 330 nm.
    """
    chosen = PassbandSet(passbands.name, (passbands,)) if isinstance(passbands, Passband) else passbands
    model = instrument or load_instrument()
    change = load_correction(correction) or model.correction
    # The change comes afterwards, with the domain in which it holds.
    model = dataclasses.replace(model, correction=None)
    for band in chosen:
        if extrapolate == "linear" and cut_off(band) > 0 and band.wavelength[0] < BLUE_RANGE[1]:
            raise XpjaxError(
                f"passband {band.name} is recovered within 330..1050 nm alone, and its zero point stands for the light "
                "beyond: it cannot be extrapolated; leave it out, or take a measured curve"
            )
        outside = share_outside(band, extrapolate)
        if outside >= 1 or (outside > MOSTLY and not allow_outside):
            raise XpjaxError(_outside_message(band, outside))
    systems = []
    for unit in dict.fromkeys(band.flux_unit for band in chosen):
        bands = [band for band in chosen if band.flux_unit == unit]
        vectors = [_projection(band, model, check_extrapolate(extrapolate)) for band in bands]
        systems.append(
            from_projection(
                np.stack(vectors, axis=1),
                np.array([zero_point(band) for band in bands]),
                tuple(band.name for band in bands),
                chosen.label,
                model.release,
                flux_unit=unit,
                mean_wavelength=np.array([mean_wavelength(band) for band in bands]),
                model=model.model,
            )
        )
    return corrected_system(select_bands(stack(systems), list(chosen.names)), change, chosen)


def corrected_system(
    system: PhotometricSystem, correction: Any = STANDARD, curves: Iterable[Passband] | None = None
) -> PhotometricSystem:
    """The system of spectra with a linear correction (`xpjax.xp.correction`): the same bands, zero points and names.

    With the change D(l) of the correction a band's projection becomes r + int T l^p D(l) dl / norm. Published systems
    keep their projections, and their recovered curves carry the change alone. What the correction leaves, with a
    covariance C of relative errors, is for a star of ordinary colors the error sqrt(w' C w) 2.5 / ln(10) [mag], w the
    light that the band sees of it at each wavelength. A band with little of a star's light, below LIT of its level, has
    a share of the change.

    correction: "standard", a file, a `LinearCorrection`; None and "none" leave the system as it is. curves: those of
    the bands, in their order; by default what `curves_of` finds. Raises ValueError for systems with color equations or
    flux biases, which were made for uncorrected spectra, for bands without a curve, for a system with another
    correction, and for another release or instrument model.

    >>> sdss = corrected_system(xpjax.load_system("SDSS"), "standard")
    """
    chosen = load_correction(correction)
    if chosen is None:
        return system
    if system.domain is not None:
        if system.correction != chosen.name:
            raise XpjaxError(f"the system has the correction {system.correction} already; {chosen.name} is another")
        return system
    if system.color_equations or any(system.standardised):
        raise XpjaxError(
            f"{system.labels[0]} is standardised, with color equations or flux biases that were made for uncorrected "
            "spectra; use its plain system, or no correction (glossary: color equation)"
        )
    chosen.check(system.release, system.model)
    bands = curves_of(system) if curves is None else tuple(curves)
    if tuple(band.name for band in bands) != system.names:
        raise XpjaxError(f"the system's bands {system.names} are not those of the curves, {[b.name for b in bands]}")
    change, left, flat = zip(*(_changed(chosen, band) for band in bands), strict=True)
    raw, scale = np.asarray(system.projection, float), np.asarray(system.scale, float)
    return dataclasses.replace(
        system,
        projection=raw + np.stack(change, axis=1) / scale,
        uncorrected=raw,
        systematic=np.stack(left, axis=1),
        flat=LIT * np.array(flat) / scale * chosen.domain.unit,
        domain=chosen.domain,
        correction=chosen.name,
        pair_weight=None,
    )


def _changed(correction: LinearCorrection, band: Passband) -> tuple[np.ndarray, np.ndarray, float]:
    """What a band sees of the change (n_basis_total,) [band.flux_unit], of the root of what is left (r,) [mag], and of
    a flat spectrum of one [W m-2 nm-1].
    """
    own = correction.wavelength
    x, weight = band_weights(band, (own[0] - FADE, own[0], own[-1], own[-1] + FADE, *XP_RANGE))
    inside = (x > XP_RANGE[0]) & (x < XP_RANGE[1])
    x, weight = x[inside], weight[inside]
    light = weight * np.maximum(np.interp(x, own, correction.ordinary), 0)
    left = POGSON * (correction.left_at(x) @ (light / light.sum()))
    return correction.at(x) @ weight, left, float(weight.sum())


def _projection(band: Passband, model: Instrument, extrapolate: str) -> np.ndarray:
    operator = passband_operator(
        band.wavelength, detector=band.detector, magnitude=band.magnitude, instrument=model, extrapolate=extrapolate
    )
    return np.asarray(operator.response @ band.transmission / (operator.norm @ band.transmission))


def _outside_message(band: Passband, outside: float) -> str:
    span = f"{band.wavelength[0]:g}..{band.wavelength[-1]:g} nm"
    if outside >= 1 and band.wavelength[0] > 2500:
        return f"passband {band.name} covers {span}, none of it seen by XP; are its wavelengths in Angstrom?"
    if outside >= 1 and band.wavelength[-1] < 3:
        return f"passband {band.name} covers {span}, none of it seen by XP; are its wavelengths in micrometres?"
    option = say("allow_outside=True", "--allow-outside")
    remedy = "" if outside >= 1 else f"; add {option} to have the light inside only"
    return f"{100 * outside:.1f} % of passband {band.name} ({span}) lies outside 330..1050 nm, where XP sees{remedy}"


def load_passbands(source: Any, **options: Any) -> PassbandSet:
    """Passbands by the name of a shipped system, from files, or from a transmission chain.

    source: a name (`JPLUS`, any case; `JPLUS:gJPLUS,rJPLUS` takes some bands); a file of a curve, a list of these, or
    a folder (see `read_passbands`, which takes the options); the TOML file of a chain, or a
    folder with a system.toml; passbands, as they are. Raises ValueError for names and files that are none.
    """
    if isinstance(source, PassbandSet):
        return source
    if isinstance(source, Passband):
        return PassbandSet(source.name, (source,))
    if isinstance(source, TransmissionChain):
        return source.passbands()
    if isinstance(source, list | tuple):
        return read_passbands(source, **options)
    stem, _, wanted = str(source).partition(":")
    if wanted and not os.path.exists(source):
        try:
            return load_passbands(stem, **options)[[name.strip() for name in wanted.split(",")]]
        except KeyError as error:
            raise XpjaxError(error.args[0]) from None
    path = find_passbands(source)
    described = path / "system.toml" if path.is_dir() else path
    if described.suffix.lower() == ".toml" and described.is_file():
        if options:
            raise XpjaxError(f"{described} describes a chain, which takes no options {sorted(options)}; set them there")
        return read_chain(described).passbands()
    return read_passbands(path, **options)


def with_zero_points(passbands: PassbandSet, zero_points: Sequence[float]) -> PassbandSet:
    """The passbands with these zero points [mag], in order."""
    bands = tuple(dataclasses.replace(b, zero_point=float(z)) for b, z in zip(passbands, zero_points, strict=True))
    return dataclasses.replace(passbands, passbands=bands)


def curves_of(system: PhotometricSystem, given: Iterable[PassbandSet] = ()) -> tuple[Passband, ...]:
    """The curve of every band of a system: from given passbands, else the recovered ones of published systems.

    Raises ValueError where there is none.
    """
    known = {chosen.label: chosen for chosen in given}
    curves = []
    for label, name in zip(system.labels, system.names, strict=True):
        try:
            if label not in known:
                known[label] = load_passbands(published_name(label) or label)
            curves.append(known[label][name])
        except (ValueError, OSError, KeyError) as error:
            raise XpjaxError(f"{label} {name} has no transmission curve: {error}") from None
    return tuple(curves)


def published_name(label: str) -> str | None:
    """The published system that a name or label means, in any case, with or without underscores."""
    names = {name.replace("_", "").lower(): name for name in available_systems()}
    return names.get(label.replace("_", "").lower())
