"""From transmission curves to projections on the coefficients, without and with a linear correction.

The numerator of a passband's mean flux (`xpjax.synthetic.passband`) is a product with the coefficients, r = int T l^p
D(l) dl over 330..1050 nm (D the absolute design matrix); the denominator is taken over the whole curve, so that light
outside XP is missed, not guessed (Montegriffo et al. 2023, A&A 674 A33).

Blue extrapolation, on request: the spectrum within 322..336 nm is the straight line fitted to it within 336..382 nm.
It is linear in the spectrum, hence in the coefficients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.constants import POGSON, SPEED_OF_LIGHT, XP_RANGE
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import dot, host_dot
from xpjax.core.quadrature import between, quadrature
from xpjax.core.records import AnyArray
from xpjax.core.release import DR3, Release
from xpjax.core.units import nanometers
from xpjax.synthetic.chain import TransmissionChain
from xpjax.synthetic.loading import curves_of
from xpjax.synthetic.passband import BLUE_RANGE, Passband, PassbandSet, band_weights, check_extrapolate, power_of
from xpjax.synthetic.published import available_systems, is_system_file, load_system
from xpjax.synthetic.system import PhotometricSystem, from_projection, select_bands, stack
from xpjax.xp import (
    FADE,
    STANDARD,
    AnyLinear,
    Instrument,
    LinearCorrection,
    change_samples,
    load_correction,
    load_instrument,
)

BLUE_FIT = np.arange(336.0, 382.1, 2.0)
"""Samples [nm] of the straight line that extends a spectrum to the blue."""
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
    x, weights, samples = quadrature(wavelength, (*model.wavelength_range, *model.merge_range, *BLUE_RANGE))
    power = power_of(detector)
    response = np.zeros((model.release.n_basis_total, len(wavelength)))
    for part, design in _design_parts(x, model, check_extrapolate(extrapolate)):
        response += (samples[part].T @ (design * (x[part] ** power * weights[part])).T).T
    ab = magnitude == "AB"
    norm = samples.T @ (x ** (power - 2 * ab) * weights)
    return PassbandOperator(response, norm * (1e9 * SPEED_OF_LIGHT if ab else 1.0))


def _design_parts(grid: np.ndarray, model: Instrument, extrapolate: str) -> list[tuple[slice, np.ndarray]]:
    """Stretches of the nodes that XP sees, each with its design matrix (n_basis_total, n_part) [W m-2 nm-1]."""
    low, high = model.wavelength_range
    start = BLUE_RANGE[1] if extrapolate == "linear" else low
    parts = []
    inside = between(grid, start, high)
    if inside.stop > inside.start:
        parts.append((inside, _design(model, grid[inside])))
    blue = between(grid, *BLUE_RANGE)
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


def passband_system(
    passbands: PassbandSet | Passband,
    *,
    instrument: Instrument | None = None,
    extrapolate: str | None = None,
    allow_outside: bool = False,
    correction: AnyLinear = None,
) -> PhotometricSystem:
    """Make the photometric system of transmission curves: each becomes one projection on the coefficients.

    Parameters
    ----------
    passbands : PassbandSet or Passband
        The curves.
    instrument : Instrument, optional
        Instrument model; by default that of Gaia DR3.
    extrapolate : {"none", "linear"}, optional
        "linear" extends spectra from 336 to 322 nm by the straight line fitted to them within 336..382 nm; by default
        light outside 330..1050 nm is left out.
    allow_outside : bool
        Take passbands too of which XP sees less than half.
    correction : LinearCorrection or str, optional
        Linear correction of XP's systematic errors: "standard", a file, or a record; by default the instrument's.

    Returns
    -------
    PhotometricSystem
        Projections, zero points [mag] and flux units of the bands, in the order of the set.

    Raises
    ------
    XpjaxError
        If more than half of a passband's integral lies outside 330..1050 nm (unless `allow_outside`), a Vega passband
        has no zero point, or a recovered curve that is cut at 330 nm is to be extrapolated.

    Notes
    -----
    With D the design matrix, p = 1 for photon counting and 0 for energy, a flux is c r with
    r = int T l^p D dl / norm; the norm is taken over the whole curve (Montegriffo et al. 2023, A&A 674 A33).

    Examples
    --------
    >>> u = xpjax.passband_system(xpjax.load_passbands("sdss2010:u"), extrapolate="linear")
    >>> u
    PhotometricSystem(sdss2010: u)
    >>> xpjax.photometry(xpjax.simulate_sources(3, seed=1), u).magnitude.shape
    (3, 1)
    """
    chosen = PassbandSet(passbands.name, (passbands,)) if isinstance(passbands, Passband) else passbands
    model = instrument or load_instrument()
    change = load_correction(correction) or model.correction
    # The change comes afterwards, with the domain in which it holds.
    model = dataclasses.replace(model, correction=None)
    for band in chosen:
        if extrapolate == "linear" and band.cut_off > 0 and band.wavelength[0] < BLUE_RANGE[1]:
            raise XpjaxError(
                f"passband {band.name} is recovered within 330..1050 nm alone, and its zero point stands for the light "
                "beyond: it cannot be extrapolated; leave it out, or take a measured curve"
            )
        outside = band.share_outside(extrapolate, model.wavelength_range)
        if outside >= 1 or (outside > MOSTLY and not allow_outside):
            raise XpjaxError(_outside_message(band, outside))
    systems = []
    for unit in dict.fromkeys(band.flux_unit for band in chosen):
        bands = [band for band in chosen if band.flux_unit == unit]
        vectors = _projections(bands, model, check_extrapolate(extrapolate))
        systems.append(
            from_projection(
                np.stack(vectors, axis=1),
                np.array([band.flux_zero_point for band in bands]),
                tuple(band.name for band in bands),
                chosen.label,
                model.release,
                flux_unit=unit,
                mean_wavelength=np.array([band.mean_wavelength for band in bands]),
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
    the bands, in their order; by default what `curves_of` finds. Raises XpjaxError for systems with color equations or
    flux biases, which were made for uncorrected spectra, for bands without a curve, for a system with another
    correction, and for another release or instrument model.
    """
    chosen = load_correction(correction)
    if chosen is None:
        return system
    if system.domain is not None:
        if system.correction != chosen.name:
            raise XpjaxError(f"the system has the correction {system.correction} already; {chosen.name} is another")
        return system
    if system.color_equations or any(system.standardized):
        raise XpjaxError(
            f"{system.labels[0]} is standardized, with color equations or flux biases that were made for uncorrected "
            "spectra; use its plain system, or no correction (glossary: color equation)"
        )
    chosen.check(system.release, system.model)
    bands = curves_of(system) if curves is None else tuple(curves)
    if tuple(band.name for band in bands) != system.names:
        raise XpjaxError(f"the system's bands {system.names} are not those of the curves, {[b.name for b in bands]}")
    shared: dict[bytes, tuple[Any, np.ndarray]] = {}
    change, left, flat = zip(*(_changed(chosen, band, shared) for band in bands), strict=True)
    # Arrays that JAX traces are new objects: it would take one that it holds in another precision for the same.
    raw = system.projection.view() if isinstance(system.projection, np.ndarray) else system.projection
    scale, weight = system.scale, np.stack(change, axis=1)
    return dataclasses.replace(
        system,
        projection=raw + host_dot(chosen.change, weight / scale),
        uncorrected=raw,
        systematic=np.stack(left, axis=1),
        flat=LIT * np.array(flat) / scale * chosen.domain.unit,
        domain=chosen.domain,
        correction=chosen.name,
        pair_weight=None,
    )


def _changed(
    correction: LinearCorrection, band: Passband, shared: dict[bytes, tuple[Any, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, float]:
    """A band's weights (m,) of the change's samples [band.flux_unit], and what it sees of the root of what is left (r,)
    [mag] and of a flat spectrum of one [W m-2 nm-1]. shared: `change_samples` and that root of earlier bands.
    """
    own = correction.wavelength
    x, weight = band_weights(band, (own[0] - FADE, own[0], own[-1], own[-1] + FADE, *XP_RANGE))
    inside = (x > XP_RANGE[0]) & (x < XP_RANGE[1])
    x, weight = x[inside], weight[inside]
    light = weight * np.maximum(np.interp(x, own, correction.ordinary), 0)
    key = x.tobytes()
    if key not in shared:
        shared[key] = change_samples(own, x), correction.left_at(x)
    samples, root = shared[key]
    return samples @ weight, POGSON * (root @ (light / light.sum())), float(weight.sum())


def _projections(bands: Sequence[Passband], model: Instrument, extrapolate: str) -> list[np.ndarray]:
    """The projection vector of each band; bands on one grid, as those of a telescope's chain, share an operator."""
    operators: dict[tuple[bytes, str, str], PassbandOperator] = {}
    vectors = []
    for band in bands:
        key = (band.wavelength.tobytes(), band.detector, band.magnitude)
        if key not in operators:
            operators[key] = passband_operator(
                band.wavelength, detector=band.detector, magnitude=band.magnitude, instrument=model,
                extrapolate=extrapolate,
            )  # fmt: skip
        response, norm = np.asarray(operators[key].response), np.asarray(operators[key].norm)
        vectors.append(response @ band.transmission / (norm @ band.transmission))
    return vectors


def _outside_message(band: Passband, outside: float) -> str:
    span = f"{band.wavelength[0]:g}..{band.wavelength[-1]:g} nm"
    unit = "Angstrom" if band.wavelength[0] > 2500 else "micrometres" if band.wavelength[-1] < 3 else ""
    if outside >= 1 and unit:
        return f"passband {band.name} covers {span}, none of it seen by XP; are its wavelengths in {unit}?"
    option = say("allow_outside=True", "--allow-outside")
    remedy = "" if outside >= 1 else f"; add {option} to have the light inside only"
    return f"{100 * outside:.1f} % of passband {band.name} ({span}) lies outside 330..1050 nm, where XP sees{remedy}"


AnySystem: TypeAlias = PhotometricSystem | TransmissionChain | PassbandSet | Passband | str


def as_system(
    system: AnySystem | Sequence[AnySystem],
    correction: AnyLinear = None,
    *,
    extrapolate: str | None = None,
    allow_outside: bool = False,
    release: Release | None = None,
) -> PhotometricSystem:
    """Combine published systems and passbands into one photometric system.

    Parameters
    ----------
    system : str, PhotometricSystem, Passband, PassbandSet, TransmissionChain, or a list of these
        A name is one for `load_system`; bands keep this order.
    correction : LinearCorrection or str, optional
        Linear correction of XP's systematic errors for systems that have none yet: "standard", a file, or a record.
    extrapolate, allow_outside
        For passbands, as in `passband_system`; published systems are fixed.
    release : Release, optional
        Data release of the coefficients, whose systems and instrument names and passbands stand for; by default that of
        the systems that are given as such, else Gaia DR3.

    Returns
    -------
    PhotometricSystem
        All bands side by side.

    Raises
    ------
    XpjaxError
        If something else is given, two bands have the same column, or a system cannot be corrected.

    Examples
    --------
    >>> xpjax.synthetic.as_system(["JPLUS:gJPLUS,rJPLUS", xpjax.load_passbands("minisitian:g")])
    PhotometricSystem(Jplus: gJPLUS, rJPLUS; MiniSiTian: g)
    """
    chosen = system if isinstance(system, list | tuple) else [system]
    if not chosen:
        raise XpjaxError(f"name at least one photometric system of {list(available_systems(release=release))}")
    release = release or stated_release(chosen) or DR3
    options: dict[str, Any] = {"extrapolate": extrapolate, "allow_outside": allow_outside, "correction": correction}
    systems: list[PhotometricSystem] = []
    for one in chosen:
        if isinstance(one, TransmissionChain):
            one = one.passbands()
        if isinstance(one, str):
            made = corrected_system(load_system(one, release=None if is_system_file(one) else release), correction)
        elif isinstance(one, Passband | PassbandSet):
            made = passband_system(one, instrument=load_instrument(release=release), **options)
            twice = sorted({column for part in systems for column in part.columns} & {*made.columns})
            if twice:
                relabel = say("label= of load_passbands", "`xpjax passband build ... --label`")
                raise XpjaxError(
                    f"bands of the same name: {', '.join(twice[:5])}; give these passbands another label with "
                    f"{relabel}, or leave one out"
                )
        elif isinstance(one, PhotometricSystem):
            made = corrected_system(one, correction)
        else:
            raise XpjaxError(f"system must be a PhotometricSystem, passbands, a name, or a list of these, not {one!r}")
        systems.append(made)
    return stack(systems)


def stated_release(system: Any) -> Release | None:
    """The release that systems are of by themselves: records, and files of systems; None for names and passbands."""
    for one in system if isinstance(system, list | tuple) else [system]:
        if isinstance(one, PhotometricSystem):
            return one.release
        if isinstance(one, str) and is_system_file(one):
            return load_system(one).release
    return None
