"""Sampled spectra corrected by a network, and what the network leaves of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.constants import FLUX_UNIT
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import dot, interpolation
from xpjax.core.records import AnyArray
from xpjax.core.status import Status
from xpjax.core.units import nanometers
from xpjax.wiggles.comparison import absolute_spectra
from xpjax.wiggles.feature_files import read_features
from xpjax.wiggles.features import INPUTS, Features, combination
from xpjax.wiggles.limits import Limits, Star, applicable, star_inputs
from xpjax.wiggles.network import (
    Network,
    WiggleCorrection,
    check_base,
    check_features,
    check_network,
    means_linear,
    read_network,
    spread,
)
from xpjax.xp import NONE, STANDARD, AnyLinear, Spectra, check_uncorrected, correct_samples, load_correction


class _SpectrumConstants(eqx.Module):
    """What corrects spectra on one grid: networks, and matrices from the grid to the correction's and back."""

    networks: tuple[Network, ...]
    per_input: Float[AnyArray, "n_input n_feature"]
    to_own: Float[AnyArray, "n_grid n_wavelength"] | None
    from_own: Float[AnyArray, "n_wavelength n_grid"]
    own_exponent: Float[AnyArray, " n_wavelength"]
    exponent: Float[AnyArray, " n_grid"]
    scale: Float[AnyArray, ""]


def _spectrum_kernel(constants: _SpectrumConstants, source: tuple[Array, Array | None, Star]) -> dict[str, Array]:
    """Corrected flux (n_grid,) of one star, its error, and whether it was corrected."""
    flux, error, star = source
    flux = flux / constants.scale

    def terms(x: Array) -> Array:
        """What each network adds (n_network, n_grid)."""
        w = jnp.stack([network(x) for network in constants.networks])
        if constants.to_own is None:
            return flux * dot(w, constants.from_own)
        mean = jnp.mean(dot(flux, constants.to_own) * jnp.exp(constants.own_exponent * star.ebv))
        return mean * dot(w, constants.from_own) * jnp.exp(-constants.exponent * star.ebv)

    x = jnp.asarray(star.x)
    each = terms(x)
    term = each.mean(0)
    apply = jnp.asarray(star.apply) & jnp.any(jnp.isfinite(term))
    result = {"flux": (flux + jnp.where(apply, term, 0)) * constants.scale, "corrected": apply}
    if len(constants.networks) > 1:
        result["systematic"] = jnp.where(apply, spread(each), 0) * constants.scale
    if error is not None:
        variance = (error / constants.scale) ** 2
        if star.input_error is not None:
            # One directional derivative for each input: they are far fewer than the samples.
            slope = jax.vmap(lambda v: jax.jvp(lambda x: terms(x).mean(0), (x,), (v,))[1])(constants.per_input)
            variance += jnp.where(apply, jnp.sum((slope * star.input_error[:, None]) ** 2, axis=0), 0)
        result["flux_error"] = jnp.sqrt(variance) * constants.scale
    return result


def correct_spectra(
    spectra: Spectra | str | Path,
    correction: WiggleCorrection | AnyLinear = STANDARD,
    stars: Features | str | Path | None = None,
    *,
    resolution: str | None = None,
    truncate: bool | None = None,
    teff: ArrayLike | None = None,
    mh: ArrayLike | None = None,
    limits: Limits | None = None,
    float64: bool = False,
    devices: engine.Devices = None,
    progress: engine.Progress | None = None,
) -> Spectra:
    """Correct sampled absolute spectra, by a linear correction or a network.

    Parameters
    ----------
    spectra : Spectra, str or Path
        Absolute spectra, or a file that `xpjax.xp.read_spectra` reads. For a network with the linear correction that it
        stands on.
    correction : WiggleCorrection, LinearCorrection, str or Path
        "standard", the file of a linear correction or of a network, or one of these.
    stars : Features, str or Path, optional
        For networks: features of the sources in their order (`Features.matched`), or a file, matched by source_id.
    resolution : {"xp", "full"}, optional
        For linear corrections: resolution of the output, by default "xp".
    truncate : bool, optional
        Whether the spectra are of truncated coefficients, where their file does not say so.
    teff, mh : (n,) array or str, optional [K], [dex]
        Labels of the stars, or columns of the spectra.
    limits : Limits, optional
        Labels beyond which stars are not corrected.
    float64 : bool
        Compute in double precision.
    devices : optional
        Device names as of `xpjax.photometry`.
    progress : callable, optional
        Receives the number of spectra that are done.

    Returns
    -------
    Spectra
        The corrected spectra. Stars that are not corrected pass through, flagged in `status`.

    Raises
    ------
    XpjaxError
        For internal or corrected spectra, other sources, spectra or features of another linear correction than the
        network's base, or wavelengths that do not cover those of an additive network, which needs the mean flux.

    Notes
    -----
    By a network the error is that of the spectrum, and where the features have input errors that of the correction
    through them, sqrt(f_error^2 + sum_k (d term/d input_k input_error_k)^2), without correlations of the two and the
    error of the mean flux; the correlation matrix stays as it is.

    Examples
    --------
    >>> spectra = xpjax.spectra(xpjax.simulate_sources(5, seed=1))
    >>> xpjax.wiggles.correct_spectra(spectra).meta["correction"]
    'standard'
    """
    if isinstance(spectra, str | Path):
        known, name = absolute_spectra(spectra), Path(spectra).name
    else:
        known, name = spectra, "the input"
    named: Any = correction
    if means_linear(correction):
        others = (stars, truncate, teff, mh, limits, float64 or None, devices)
        return _by_linear(known, name, correction, resolution, any(value is not None for value in others))
    model = correction if isinstance(correction, WiggleCorrection) else read_network(named)
    _check_options(stars, resolution)
    if isinstance(spectra, str | Path):
        known = _with_truncation(known, truncate, name)
    features = read_features(stars, model.names).matched(known.source_id) if isinstance(stars, str | Path) else stars
    assert features is not None  # `_check_options` has refused it
    labels = {key: _labels(known, value, name) for key, value in (("teff", teff), ("mh", mh))}
    running: dict[str, Any] = {"float64": float64, "devices": devices, "progress": progress}
    return _by_network(known, model, features, {**labels, "limits": limits}, **running)


def _check_options(stars: Any, resolution: str | None) -> None:
    """Raise XpjaxError for a network without features, or with options of linear corrections."""
    if stars is None:
        made = say("stars (`xpjax.wiggles.make_features`)", "--features (`xpjax wiggles features`)")
        option = say("correction='standard'", "--correction standard")
        raise XpjaxError(f"the correction is a network: give {made}, or {option}")
    if resolution is not None:
        option = say("resolution", "--resolution")
        raise XpjaxError(f"{option} is for linear corrections; a network keeps that of the spectra")


def _by_linear(spectra: Spectra, name: str, correction: Any, resolution: str | None, others: bool) -> Spectra:
    if others:
        raise XpjaxError(
            say("stars, truncate, teff, mh, limits, float64 and devices",
                "--features, --truncate, --teff, --mh, --float64 and --device")
            + " are for networks: leave them out"
        )  # fmt: skip
    linear = load_correction(correction)
    if linear is None:
        option = say("correction='none'", "--correction none")
        raise XpjaxError(f"{option} leaves spectra as they are; name standard or a file")
    check_uncorrected(spectra, name)
    return correct_samples(spectra, linear, resolution or "xp")


def _labels(spectra: Spectra, given: Any, name: str) -> np.ndarray | None:
    """Labels (n,) as they are, or from a column of the spectra."""
    if not isinstance(given, str):
        return given
    if given not in spectra.columns:
        raise XpjaxError(f"{name} has no column {given}; it has {list(spectra.columns)}")
    return np.asarray(spectra.columns[given], float)


def _with_truncation(spectra: Spectra, truncate: bool | None, name: str) -> Spectra:
    """Spectra that say whether they are truncated, by their file or by an option. Raises XpjaxError."""
    own = spectra.meta.get("truncate")
    if own is None and truncate is None:
        option = say("truncate=True or truncate=False", "--truncate or --no-truncate")
        raise XpjaxError(
            f"{name} does not say whether its spectra are of truncated coefficients, which a network must know: add "
            + option
        )
    if own is not None and truncate not in (None, own):
        option = say("truncate", f"--{'no-' * bool(own)}truncate")
        raise XpjaxError(f"{name} holds {'truncated' if own else 'full'} spectra, as it says; leave {option} out")
    return dataclasses.replace(spectra, meta={**spectra.meta, "truncate": bool(truncate if own is None else own)})


def _by_network(
    spectra: Spectra, model: WiggleCorrection, stars: Features, limits: dict[str, Any], float64: bool, **running: Any
) -> Spectra:
    """Spectra corrected by a network, see `correct_spectra`; limits: what `applicable` is told."""
    _check(spectra, model, stars)
    apply, bits = applicable(model, stars, **limits)
    if model.base != NONE:
        # Beyond the linear correction's domain a spectrum is not what the network learned from.
        apply &= (spectra.status & np.uint32(Status.OUTSIDE_TRAINING | Status.NOT_CORRECTED)) == 0
        bits[~apply] |= np.uint32(Status.NOT_CORRECTED)
    source = star_inputs(model, stars, apply, spectra.flux_error is not None)
    constants = _constants(model, np.asarray(nanometers(spectra.wavelength), float))
    widest = sum(sum(n.widths) for n in model.networks) + 4 * len(spectra.wavelength)
    work = 4 * widest * (1 + float64) * (1 if source.input_error is None else 2 * len(INPUTS))
    sources = (spectra.flux, spectra.flux_error, source)
    out = engine.run(_spectrum_kernel, constants, sources, float64=float64, work_bytes=work, **running)
    status = spectra.status | bits
    status[~out["corrected"]] |= np.uint32(Status.NOT_CORRECTED)
    meta = {**spectra.meta, "corrected": True}
    return dataclasses.replace(spectra, flux=out["flux"], flux_error=out.get("flux_error"), status=status, meta=meta)


def _check(spectra: Spectra, model: WiggleCorrection, stars: Features) -> None:
    """Raise XpjaxError for spectra and features that are not what a network was trained on."""
    if spectra.internal:
        option = say("internal=True", "--internal")
        raise XpjaxError(f"internal spectra cannot be corrected: make absolute ones, without {option}")
    if not np.array_equal(spectra.source_id, stars.source_id):
        raise XpjaxError("the features are not of these sources in this order: use features.matched(spectra.source_id)")
    if bool(spectra.meta.get("truncate", model.truncate)) != model.truncate:
        made = "truncated" if model.truncate else "full"
        option = say(f"truncate={model.truncate}", "--truncate" if model.truncate else "no --truncate")
        raise XpjaxError(f"this correction is for {made} spectra: make them with {option}")
    check_network(model, spectra.release, "these are")
    check_base(model, str(spectra.meta.get("correction", NONE)), "the spectra have")
    check_features(model, stars)
    if spectra.meta.get("corrected"):
        raise XpjaxError("these spectra are corrected by a network already: give those that they were made of")


def _constants(model: WiggleCorrection, grid: np.ndarray) -> _SpectrumConstants:
    """What corrects spectra on a grid [nm]."""
    own = np.asarray(model.wavelength, float)
    to_own = None
    if model.kind == "additive":
        if grid[0] > own[0] + 1e-9 or grid[-1] < own[-1] - 1e-9:
            raise XpjaxError(
                f"the spectra cover {grid[0]:g}..{grid[-1]:g} nm, the correction's mean flux needs "
                f"{own[0]:g}..{own[-1]:g} nm: sample them there too"
            )
        to_own = interpolation(grid, np.clip(own, grid[0], grid[-1])).toarray().T
    per_input = combination(model.names) / np.asarray(model.feature_scale)
    from_own, exponents = model.interpolation(grid).toarray().T, (model.exponent(own), model.exponent(grid))
    return _SpectrumConstants(model.networks, per_input, to_own, from_own, *exponents, np.asarray(FLUX_UNIT))


def systematic_error(model: WiggleCorrection, stars: Features) -> Float[np.ndarray, "n n_wavelength"]:
    """What the correction leaves (n, n_wavelength): RMS of normalized flux at the model's wavelengths.

    From the model's table at each star's BP-RP, G and E(B-V). Raises XpjaxError for a model without a table.
    """
    table = model.systematic
    if table is None:
        raise XpjaxError("this correction has no table of systematic errors")
    value = np.asarray(table.value)
    return table.weights_of(stars) @ value.reshape(-1, value.shape[-1])
