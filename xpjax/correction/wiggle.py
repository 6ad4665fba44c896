"""The wiggle correction: a network that predicts, from a star's features, what its XP spectrum is wrong by.

With f the flux, <.> the mean over the correction's own wavelengths, A the extinction and w the network's output
(Ye et al. 2024), in the space of dereddened, mean-normalised flux:

    additive         corrected f = f + <f 10^(0.4 A)> w 10^(-0.4 A)
    multiplicative   corrected f = f (1 + w)

Between its wavelengths w is linear, beyond them it goes smoothly to zero within `blend` nm. A correction made in
observed space has A = 0.

Magnitudes need no spectrum: seen through a passband the additive term is

    <f 10^(0.4 A)> sum_j w_j q_j(E),   q_j(E) = int hat_j T l^p 10^(-0.4 A) dl / norm

and w = h W with the last layer W. q and the mean's row of the coefficients are Chebyshev series in E(B-V), exact to
1e-8, and W is multiplied into them beforehand: a star costs its hidden layers and two small products.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from xpjax import engine
from xpjax.constants import FLUX_UNIT, MERGE_RANGE, XP_RANGE
from xpjax.correction.inputs import INPUTS, Features, combination
from xpjax.extinction import AV_PER_SFD, R_V, extinction_curve
from xpjax.io.catalogue import write_bytes
from xpjax.linalg import dot
from xpjax.records import AnyArray, Catalogue, Passband, PassbandSet, Status, XPCoefficients
from xpjax.synthetic.magnitude import POGSON, Photometry, photometry_kernel
from xpjax.synthetic.passband import band_weights, interpolation, passband_system, passbands
from xpjax.synthetic.system import PhotometricSystem, available_systems, select_bands
from xpjax.synthetic.system import system as load_system
from xpjax.xp.coefficients import as_sources, mark_no_errors, masked, merge_status, run_guarded, usable
from xpjax.xp.instrument import Instrument, check_grid
from xpjax.xp.instrument import instrument as load_instrument
from xpjax.xp.spectrum import Spectra

FORMAT, VERSION = "xpjax wiggle correction", 1
KINDS = ("additive", "multiplicative")
SPACES = ("dereddened", "observed")
BLEND = 10.0
"""Width [nm] within which a correction goes to zero beyond its wavelengths."""
SERIES = 1e-8
"""Where the series in E(B-V) end, relative to their largest term."""
SHORTEST, LONGEST = 12, 48
"""Terms that are tried; 48 are more than any E(B-V) up to 10 needs."""
FINE = 1.0
"""Longest step [nm] between samples of a multiplicative correction in photometry."""


def constant_grid() -> np.ndarray:
    """The paper's wavelengths (330,) [nm]: 360..990, evenly spaced in the logarithm."""
    return np.geomspace(360.0, 990.0, 330)


def variable_grid(
    wavelength: AnyArray, resolution: AnyArray, n: int = 270, limits: tuple[float, float] = (360.0, 992.1)
) -> np.ndarray:
    """n wavelengths [nm] between limits, their steps the same share of a resolution element lambda/R everywhere.

    resolution (m,): R at wavelengths (m,) [nm], ascending, linear between them and constant beyond. The paper has 270
    samples on 360..992.1 nm and calls the share a half; with its R(lambda) as tabulated it is a fifth.
    """
    fine = np.linspace(*limits, 20001)
    density = np.interp(fine, np.asarray(wavelength), np.asarray(resolution)) / fine
    passed = np.append(0.0, np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(fine)))
    return np.interp(np.linspace(0.0, passed[-1], n), passed, fine)


class Network(eqx.Module):
    """A perceptron with ReLU between its layers: weight (n_in, n_out) and bias (n_out,) of each."""

    weight: tuple[Float[AnyArray, "n_in n_out"], ...]
    bias: tuple[Float[AnyArray, " n_out"], ...]

    def hidden(self, x: Array) -> Array:
        """What goes into the last layer."""
        for weight, bias in zip(self.weight[:-1], self.bias[:-1], strict=True):
            x = jax.nn.relu(dot(x, weight) + bias)
        return x

    def __call__(self, x: Array) -> Array:
        """The output (n_out,) for scaled features (n_in,)."""
        return dot(self.hidden(x), self.weight[-1]) + self.bias[-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Sizes of the hidden layers."""
        return tuple(w.shape[1] for w in self.weight[:-1])

    @property
    def n_weight(self) -> int:
        """Number of weights and biases."""
        return sum(int(np.prod(a.shape)) for a in (*self.weight, *self.bias))


class SystematicTable(eqx.Module):
    """What a correction leaves, RMS (n_color, n_g, n_ebv, n_wavelength) of normalised flux, at nodes of BP-RP, G, E.

    Linear between nodes, constant beyond; an axis with one node does not matter.
    """

    color: Float[AnyArray, " n_color"]
    g: Float[AnyArray, " n_g"]
    ebv: Float[AnyArray, " n_ebv"]
    value: Float[AnyArray, "n_color n_g n_ebv n_wavelength"]

    def weights(self, color: np.ndarray, g: np.ndarray, ebv: np.ndarray) -> np.ndarray:
        """Weights (n, n_node_total) of the nodes for stars with these colors, G and E(B-V) (n,); NaN: the mean."""
        out = np.ones((len(color), 1))
        for nodes, x in ((self.color, color), (self.g, g), (self.ebv, ebv)):
            out = (out[:, :, None] * _linear_weights(np.asarray(nodes), x)[:, None, :]).reshape(len(x), -1)
        return out


def _linear_weights(nodes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Weights (n, n_node) of linear interpolation at x (n,), clamped; equal ones where x is NaN."""
    n = len(nodes)
    if n == 1:
        return np.ones((len(x), 1))
    known = np.isfinite(x)
    at = np.clip(np.where(known, x, nodes[0]), nodes[0], nodes[-1])
    k = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, n - 2)
    t = (at - nodes[k]) / (nodes[k + 1] - nodes[k])
    out = np.zeros((len(x), n))
    rows = np.arange(len(x))
    out[rows, k], out[rows, k + 1] = 1 - t, t
    out[~known] = 1 / n
    return out


class WiggleCorrection(eqx.Module):
    """A trained correction and all that is needed to apply it.

    networks: one, or several of an ensemble, whose mean is the correction and whose scatter its uncertainty; they map
    (features - feature_mean) / feature_scale (n_feature,) to w (n_wavelength,). low, high (n_feature,): the range of
    the training set. wavelength (n_wavelength,) [nm]; blend [nm]; law, r_v and per_ebv (A_V per E(B-V)) of the
    dereddening. truncate: made from truncated spectra. record: how it was trained, as JSON.
    """

    networks: tuple[Network, ...]
    feature_mean: Float[AnyArray, " n_feature"]
    feature_scale: Float[AnyArray, " n_feature"]
    low: Float[AnyArray, " n_feature"]
    high: Float[AnyArray, " n_feature"]
    wavelength: Float[AnyArray, " n_wavelength"]
    blend: Float[AnyArray, ""]
    r_v: Float[AnyArray, ""]
    per_ebv: Float[AnyArray, ""]
    systematic: SystematicTable | None
    names: tuple[str, ...] = eqx.field(static=True)
    kind: str = eqx.field(static=True, default="additive")
    space: str = eqx.field(static=True, default="dereddened")
    law: str = eqx.field(static=True, default="ccm89")
    truncate: bool = eqx.field(static=True, default=False)
    record: str = eqx.field(static=True, default="{}")

    def __check_init__(self) -> None:
        for value, known, what in ((self.kind, KINDS, "kind"), (self.space, SPACES, "space")):
            if value not in known:
                raise ValueError(f"{what} {value!r} is not one of {known}")
        k, m = len(self.names), len(self.wavelength)
        for name in ("feature_mean", "feature_scale", "low", "high"):
            if np.shape(getattr(self, name)) != (k,):
                raise ValueError(f"{name} has shape {np.shape(getattr(self, name))}, expected ({k},): {self.names}")
        check_grid(self.wavelength, XP_RANGE, "wavelength", "nm")
        if not self.networks:
            raise ValueError("a correction needs a network")
        for network in self.networks:
            sizes = [k, *(w.shape[1] for w in network.weight)]
            fits = [w.shape == (a, b) for w, a, b in zip(network.weight, sizes, sizes[1:], strict=False)]
            if sizes[-1] != m or not all(fits):
                shapes = [w.shape for w in network.weight]
                raise ValueError(f"layers {shapes} do not lead from {k} features to {m} wavelengths")

    @property
    def dereddens(self) -> bool:
        """Whether E(B-V) enters beyond the features."""
        return self.kind == "additive" and self.space == "dereddened"

    def pattern(self, x: Array) -> Array:
        """w (n_wavelength,) for features (n_feature,): the mean over the networks."""
        scaled = (x - self.feature_mean) / self.feature_scale
        return jnp.stack([network(scaled) for network in self.networks]).mean(0)

    def interpolation(self, wavelength: np.ndarray) -> Any:
        """Sparse matrix (n, n_wavelength) that gives w at wavelengths (n,) [nm]: linear, and to zero beyond."""
        from scipy import sparse

        own, x = np.asarray(self.wavelength, float), np.asarray(wavelength, float)
        inside = np.clip(x, own[0], own[-1])
        k = np.clip(np.searchsorted(own, inside, side="right") - 1, 0, len(own) - 2)
        t = (inside - own[k]) / (own[k + 1] - own[k])
        far = np.clip(np.abs(x - inside) / max(float(self.blend), 1e-9), 0, 1)
        share = 1 - far**2 * (3 - 2 * far)
        rows = np.arange(len(x))
        weights = np.append(share * (1 - t), share * t)
        return sparse.csr_array((weights, (np.append(rows, rows), np.append(k, k + 1))), shape=(len(x), len(own)))

    def exponent(self, wavelength: np.ndarray) -> np.ndarray:
        """0.4 ln(10) A / E(B-V) (n,) at wavelengths (n,) [nm]; zero for a correction that does not deredden."""
        if not self.dereddens:
            return np.zeros(len(wavelength))
        curve = extinction_curve(wavelength, self.law, float(self.r_v))
        return 0.4 * np.log(10.0) * float(self.per_ebv) * curve


# --- rules ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Limits:
    """Beyond these stars are not corrected: teff [K] above, mh [dex] at or below, av [mag] above; None: no limit."""

    teff: float | None = 8000.0
    mh: float | None = -2.5
    av: float | None = 15.0


def applicable(
    model: WiggleCorrection,
    stars: Features,
    *,
    teff: np.ndarray | None = None,
    mh: np.ndarray | None = None,
    limits: Limits | None = None,
) -> tuple[Bool[np.ndarray, " n"], np.ndarray]:
    """Which stars are corrected (n,), and status bits (n,) uint32 of the others that say why not.

    Not corrected: features missing or outside the training set's range, E(B-V) missing where it is needed, and Teff,
    [M/H] (n,), where given and known, or A_V beyond the limits (Ye et al. 2024, section 4.4).
    """
    limits = limits or Limits()
    stars = stars.select(model.names)
    x = np.asarray(stars.value, float)
    known = np.isfinite(x)
    missing = ~known.all(axis=1)
    if model.dereddens:
        if stars.ebv is None:
            raise ValueError("this correction dereddens: the features need E(B-V), by ebv= or a dataset ebv")
        missing |= ~np.isfinite(stars.ebv)
    # Rounding to float32 must not put the training set's own edge outside.
    margin = 1e-6 * (np.abs(np.asarray(model.low)) + np.abs(np.asarray(model.high)))
    margin = np.where(np.isfinite(margin), margin, 0)
    outside = (known & ((x < np.asarray(model.low) - margin) | (x > np.asarray(model.high) + margin))).any(axis=1)
    beyond = np.zeros(len(stars), bool)
    with np.errstate(invalid="ignore"):
        if teff is not None and limits.teff is not None:
            beyond |= np.asarray(teff) > limits.teff
        if mh is not None and limits.mh is not None:
            beyond |= np.asarray(mh) <= limits.mh
        if stars.ebv is not None and limits.av is not None:
            beyond |= stars.ebv * float(model.per_ebv) > limits.av
    status = np.zeros(len(stars), np.uint32)
    reasons = ((missing, Status.FEATURE_MISSING), (outside, Status.OUTSIDE_TRAINING), (beyond, Status.OUTSIDE_LIMITS))
    for rows, bit in reasons:
        status[rows] |= np.uint32(bit | Status.NOT_CORRECTED)
    return status == 0, status


class _Star(eqx.Module):
    """What the kernels are told of one star: scaled features (n_feature,), E(B-V), whether to correct it."""

    x: Float[AnyArray, " n_feature"]
    ebv: Float[AnyArray, ""]
    apply: Bool[AnyArray, ""]
    input_error: Float[AnyArray, " n_input"] | None


def _stars(model: WiggleCorrection, stars: Features, apply: np.ndarray, errors: bool) -> _Star:
    """The stars with harmless numbers where they are not corrected."""
    stars = stars.select(model.names)
    mean = np.asarray(model.feature_mean, float)
    # Scaled here in float64: magnitudes of 15 in float32 would cost 1e-6 mag before the network sees them.
    x = np.where(apply[:, None], (stars.value - mean) / np.asarray(model.feature_scale, float), 0.0)
    ebv = np.zeros(len(stars)) if stars.ebv is None or not model.dereddens else np.where(apply, stars.ebv, 0.0)
    error = None
    if errors and stars.input_error is not None:
        error = np.where(apply[:, None], stars.input_error, 0.0)
    return _Star(x, ebv, apply, error)


def _spread(values: Array) -> Array:
    """Standard deviation over the networks, along the first axis."""
    n = values.shape[0]
    return jnp.sqrt(jnp.sum((values - values.mean(0)) ** 2, axis=0) / max(n - 1, 1))


# --- spectra ----------------------------------------------------------------------------------------------------------


class _SpectrumConstants(eqx.Module):
    """What corrects spectra on one grid: networks, and matrices from the grid to the correction's and back."""

    networks: tuple[Network, ...]
    per_input: Float[AnyArray, "n_input n_feature"] | None
    to_own: Float[AnyArray, "n_grid n_wavelength"] | None
    from_own: Float[AnyArray, "n_wavelength n_grid"]
    own_exponent: Float[AnyArray, " n_wavelength"]
    exponent: Float[AnyArray, " n_grid"]
    scale: Float[AnyArray, ""]
    additive: bool = eqx.field(static=True)


def _spectrum_kernel(constants: _SpectrumConstants, source: tuple[Array, Array | None, _Star]) -> dict[str, Array]:
    """Corrected flux (n_grid,) of one star, its error, and whether it was corrected."""
    flux, error, star = source
    flux = flux / constants.scale

    def terms(x: Array) -> Array:
        """What each network adds (n_network, n_grid)."""
        w = jnp.stack([network(x) for network in constants.networks])
        if not constants.additive:
            return flux * dot(w, constants.from_own)
        assert constants.to_own is not None
        mean = jnp.mean(dot(flux, constants.to_own) * jnp.exp(constants.own_exponent * star.ebv))
        return mean * dot(w, constants.from_own) * jnp.exp(-constants.exponent * star.ebv)

    x = jnp.asarray(star.x)
    each = terms(x)
    term = each.mean(0)
    apply = jnp.asarray(star.apply) & jnp.any(jnp.isfinite(term))
    result = {"flux": (flux + jnp.where(apply, term, 0)) * constants.scale, "corrected": apply}
    if len(constants.networks) > 1:
        result["systematic"] = jnp.where(apply, _spread(each), 0) * constants.scale
    if error is not None:
        variance = (error / constants.scale) ** 2
        if star.input_error is not None:
            assert constants.per_input is not None
            # One directional derivative for each input: they are far fewer than the samples.
            slope = jax.vmap(lambda v: jax.jvp(lambda x: terms(x).mean(0), (x,), (v,))[1])(constants.per_input)
            variance += jnp.where(apply, jnp.sum((slope * star.input_error[:, None]) ** 2, axis=0), 0)
        result["flux_error"] = jnp.sqrt(variance) * constants.scale
    return result


def correct_spectra(
    spectra: Spectra,
    model: WiggleCorrection,
    stars: Features,
    *,
    teff: np.ndarray | None = None,
    mh: np.ndarray | None = None,
    limits: Limits | None = None,
    float64: bool = False,
    devices: Any = None,
    progress: engine.Progress | None = None,
) -> Spectra:
    """Absolute spectra with the correction; those that are not corrected pass through, flagged in status.

    spectra: from `xpjax.spectra`, truncated if the model was trained so; stars: features of the same sources in the
    same order (`Features.matched`). Errors: the spectrum's own, and where the features have input errors those of the
    correction through them, sqrt(f_error^2 + sum_k (d term/d input_k input_error_k)^2). Neglected are correlations
    between the two and the error of the mean flux, which is far below a sample's; the correlation matrix stays as it
    is. meta["systematic"] is not set: see `systematic_error`. Raises ValueError for internal spectra, other sources,
    or a grid that does not cover the correction's wavelengths (an additive one needs their mean).
    """
    if spectra.internal:
        raise ValueError("internal spectra cannot be corrected: make absolute ones (leave out internal=True)")
    if not np.array_equal(spectra.source_id, stars.source_id):
        raise ValueError("the features are not of these sources in this order: use features.matched(spectra.source_id)")
    if bool(spectra.meta.get("truncate", model.truncate)) != model.truncate:
        made = "truncated" if model.truncate else "full"
        raise ValueError(f"this correction is for {made} spectra: make them with truncate={model.truncate}")
    grid, own = np.asarray(spectra.wavelength, float), np.asarray(model.wavelength, float)
    to_own = None
    if model.kind == "additive":
        if grid[0] > own[0] + 1e-9 or grid[-1] < own[-1] - 1e-9:
            raise ValueError(
                f"the spectra cover {grid[0]:g}..{grid[-1]:g} nm, the correction's mean flux needs "
                f"{own[0]:g}..{own[-1]:g} nm: sample them there too"
            )
        to_own = interpolation(grid, np.clip(own, grid[0], grid[-1])).toarray().T
    apply, bits = applicable(model, stars, teff=teff, mh=mh, limits=limits)
    source = _stars(model, stars, apply, spectra.flux_error is not None)
    constants = _SpectrumConstants(
        model.networks,
        None if source.input_error is None else combination(model.names) / np.asarray(model.feature_scale),
        to_own,
        model.interpolation(grid).toarray().T,
        model.exponent(own),
        model.exponent(grid),
        np.asarray(FLUX_UNIT),
        model.kind == "additive",
    )
    widest = sum(sum(n.widths) for n in model.networks) + 4 * len(grid)
    out = engine.run(
        _spectrum_kernel,
        constants,
        (spectra.flux, spectra.flux_error, source),
        float64=float64,
        devices=devices,
        work_bytes=4 * widest * (1 + float64) * (1 if source.input_error is None else 2 * len(INPUTS)),
        progress=progress,
    )
    status = spectra.status | bits
    status[~out["corrected"]] |= np.uint32(Status.NOT_CORRECTED)
    meta = {**spectra.meta, "corrected": True}
    return dataclasses.replace(spectra, flux=out["flux"], flux_error=out.get("flux_error"), status=status, meta=meta)


def systematic_error(model: WiggleCorrection, stars: Features) -> Float[np.ndarray, "n n_wavelength"]:
    """What the correction leaves (n, n_wavelength): RMS of normalised flux at the model's wavelengths.

    From the model's table at each star's BP-RP, G and E(B-V). Raises ValueError for a model without a table.
    """
    table = model.systematic
    if table is None:
        raise ValueError("this correction has no table of systematic errors")
    value = np.asarray(table.value)
    return table.weights(*_table_axes(stars)) @ value.reshape(-1, value.shape[-1])


def _table_axes(stars: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """BP-RP, G and E(B-V) (n,) of stars, NaN where their features do not hold them."""

    def column(name: str) -> np.ndarray:
        return stars.value[:, stars.names.index(name)] if name in stars.names else np.full(len(stars), np.nan)

    color = column("BP-RP")
    if "BP-RP" not in stars.names and {"BP", "RP"} <= set(stars.names):
        color = column("BP") - column("RP")
    return color, column("G"), column("E(B-V)") if stars.ebv is None else stars.ebv


# --- photometry -------------------------------------------------------------------------------------------------------


class FoldedCorrection(eqx.Module):
    """A correction multiplied into passbands: all that its part in their fluxes needs.

    Additive: last (n_network, n_hidden + 1, n_term * n_band) scaled fluxes per normalised flux, the last row for the
    bias; mean (n_basis_total, n_term), the row of the mean flux [FLUX_UNIT]; terms of Chebyshev series in E(B-V) over
    ebv_range (2,). Multiplicative: sample (n_basis_total, n_fine), fine samples of the flux; w there is the output at
    below (n_fine,) and the next wavelength with weights share (2, n_fine); band (n_fine, n_band) sees their product.
    systematic (n_node, n_band) or None: the table's nodes seen through the bands, per mean flux.
    """

    networks: tuple[Network, ...]
    last: Float[AnyArray, "n_network n_hidden n_out"] | None
    mean: Float[AnyArray, "n_basis_total n_term"]
    sample: Float[AnyArray, "n_basis_total n_fine"] | None
    band: Float[AnyArray, "n_fine n_band"] | None
    below: Int[AnyArray, " n_fine"] | None
    share: Float[AnyArray, "2 n_fine"] | None
    ebv_range: Float[AnyArray, " 2"]
    per_input: Float[AnyArray, "n_input n_feature"] | None
    systematic: Float[AnyArray, "n_node n_band"] | None


def fold(
    model: WiggleCorrection,
    bands: PassbandSet,
    system: PhotometricSystem,
    *,
    ebv_range: tuple[float, float] = (0.0, 1.0),
    instrument: Instrument | None = None,
) -> FoldedCorrection:
    """Fold the last layer, the passbands and the reddening of E(B-V) within a range into one matrix, on the host.

    bands: the curves, in the order of the system's bands, whose scales the result has. It takes a fifth of a second:
    for many files do it once, and give it to `corrected_photometry`.
    """
    chosen = instrument or load_instrument()
    own = np.asarray(model.wavelength, float)
    design = chosen.design(own)
    sampled = np.asarray(design.value) * (float(design.scale) / FLUX_UNIT)
    low, high = ebv_range
    high = max(high, low + 1e-3)
    parts = [_band_nodes(model, band) for band in bands]
    unit = FLUX_UNIT / np.asarray(system.scale, float)
    a = model.exponent(own)
    # The factor common to all wavelengths cancels between the mean flux and the reddening of its term.
    middle = float(a.mean())

    def seen(ebv: float) -> np.ndarray:
        """Scaled flux (n_wavelength, n_band) of w = 1 at each wavelength, per mean flux."""
        columns = [h.T @ (q * np.exp(-(e - middle) * ebv)) for h, q, e in parts]
        return np.stack(columns, axis=1) * unit

    def mean_row(ebv: float) -> np.ndarray:
        return sampled @ np.exp((a - middle) * ebv) / len(own)

    systematic = None
    if model.systematic is not None:
        table = np.asarray(model.systematic.value)
        at = np.asarray(model.systematic.ebv, float) if model.dereddens else np.zeros(table.shape[2])
        through = np.stack([table[:, :, k] @ np.abs(seen(float(e))) for k, e in enumerate(at)], axis=2)
        systematic = through.reshape(-1, through.shape[-1])
    scaled = combination(model.names) / np.asarray(model.feature_scale)
    if model.kind == "multiplicative":
        return _fold_product(model, bands, unit, chosen, scaled)
    # Both series have as many terms as the longer one needs.
    series = [_chebyshev(function, low, high, not model.dereddens) for function in (seen, mean_row)]
    n_term = max(len(s) for s in series)
    through, mean = (np.concatenate([s, np.zeros((n_term - len(s), *s.shape[1:]))]) for s in series)
    hidden = [Network((*n.weight[:-1], np.zeros((0, 0))), (*n.bias[:-1], np.zeros(0))) for n in model.networks]
    last = [
        np.concatenate([np.asarray(n.weight[-1], float), np.asarray(n.bias[-1], float)[None]]) for n in model.networks
    ]
    product = np.stack([np.einsum("hj,kjb->hkb", w, through).reshape(len(w), -1) for w in last])
    limits = np.array([low, high])
    return FoldedCorrection(tuple(hidden), product, mean.T, None, None, None, None, limits, scaled, systematic)


def _fold_product(
    model: WiggleCorrection, bands: PassbandSet, unit: np.ndarray, instrument: Instrument, per_input: np.ndarray
) -> FoldedCorrection:
    """The multiplicative case: f w is sampled finely, and a local cubic between samples."""
    own, blend = np.asarray(model.wavelength, float), float(model.blend)
    ends = np.clip([own[0] - blend, own[-1] + blend], *XP_RANGE)
    knots = np.unique(np.concatenate([ends[:1], own, ends[1:]]))
    pieces = [np.linspace(a, b, int(np.ceil((b - a) / FINE)) + 1)[:-1] for a, b in itertools.pairwise(knots)]
    fine = np.concatenate([*pieces, ends[1:]])
    design = instrument.design(fine)
    matrix = model.interpolation(fine)
    below = np.clip(np.searchsorted(own, fine, side="right") - 1, 0, len(own) - 2)
    rows = np.arange(len(fine))
    dense = matrix.toarray()
    through = []
    for band in bands:
        x, seen = _seen(band, fine, (fine[0], fine[-1]))
        through.append(interpolation(fine, x).T @ seen)
    return FoldedCorrection(
        model.networks,
        None,
        np.zeros((design.value.shape[0], 1)),
        np.asarray(design.value) * (float(design.scale) / FLUX_UNIT),
        np.stack(through, axis=1) * unit,
        below.astype(np.int32),
        np.stack([dense[rows, below], dense[rows, below + 1]]),
        np.array([0.0, 1.0]),
        per_input,
        None,
    )


def _band_nodes(model: WiggleCorrection, band: Passband) -> tuple[Any, np.ndarray, np.ndarray]:
    """At the nodes of a passband's integral: w's matrix, flux seen per flux [W m-2 nm-1], and the dust's exponent."""
    own, blend = np.asarray(model.wavelength, float), float(model.blend)
    x, seen = _seen(band, own, (own[0] - blend, own[-1] + blend))
    return model.interpolation(x), seen, model.exponent(x)


def _seen(band: Passband, breaks: np.ndarray, ends: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (m,) within ends [nm], and the flux seen (m,) [band.flux_unit] for unit flux [W m-2 nm-1] at each."""
    x, weight = band_weights(band, np.concatenate([breaks, ends, XP_RANGE, MERGE_RANGE]))
    inside = (x > max(ends[0], XP_RANGE[0])) & (x < min(ends[1], XP_RANGE[1]))
    return x[inside], weight[inside]


def _chebyshev(function: Any, low: float, high: float, constant: bool) -> np.ndarray:
    """Coefficients (n_term, ...) of a function of E(B-V) on [low, high] in Chebyshev polynomials."""
    if constant:
        return np.stack([function(0.0)])
    n = SHORTEST
    while True:
        nodes = np.cos(np.pi * (np.arange(n) + 0.5) / n)
        values = np.stack([function(0.5 * (low + high) + 0.5 * (high - low) * t) for t in nodes])
        basis = np.polynomial.chebyshev.chebvander(nodes, n - 1)
        series = np.tensordot(basis.T, values, 1) * (2.0 / n)
        series[0] *= 0.5
        size = np.abs(series).reshape(n, -1)
        needed = int(np.flatnonzero((size > SERIES * size.max(axis=0)).any(axis=1))[-1])
        # The last terms must be small already, or the nodes are too few.
        if needed < n - 2 or n >= LONGEST:
            return series[: needed + 1]
        n *= 2


def _polynomials(folded: FoldedCorrection, ebv: Array) -> Array:
    """Chebyshev polynomials (n_term,) at E(B-V)."""
    low, high = folded.ebv_range[0], folded.ebv_range[1]
    t = (2 * ebv - low - high) / (high - low)
    n = folded.mean.shape[-1]
    values = [jnp.ones_like(t), t]
    for _ in range(n - 2):
        values.append(2 * t * values[-1] - values[-2])
    return jnp.stack(values[:n])


class _Observed(eqx.Module):
    """One star as corrected photometry takes it."""

    coefficients: XPCoefficients
    star: _Star
    nodes: Float[AnyArray, " n_node"] | None


@functools.cache
def corrected_kernel(truncate: bool = False, errors: bool = False, guard: bool = True) -> engine.Kernel:
    """The kernel ((PhotometricSystem, FoldedCorrection), star) -> as `photometry_kernel`, corrected, and systematic."""
    plain = photometry_kernel(truncate, errors, guard=guard)

    def kernel(constants: tuple[PhotometricSystem, FoldedCorrection], source: _Observed) -> dict[str, Array]:
        bands, folded = constants
        star = source.star
        out = plain(bands, source.coefficients)
        value = source.coefficients.value
        apply = star.apply
        if guard:
            # A mean needs the whole spectrum.
            apply &= jnp.all(usable(source.coefficients))
            value = masked(source.coefficients, truncate).value
        n_band = bands.n_band
        if folded.last is None:
            assert folded.sample is not None
            assert folded.band is not None
            assert folded.below is not None
            assert folded.share is not None
            sampled, band, below, share = dot(value, folded.sample), folded.band, folded.below, folded.share

            def terms(x: Array) -> Array:
                w = [network(x) for network in folded.networks]
                return jnp.stack([dot((v[below] * share[0] + v[below + 1] * share[1]) * sampled, band) for v in w])

            mean = jnp.zeros(())
        else:
            polynomials = _polynomials(folded, jnp.asarray(star.ebv))
            mean = dot(dot(value, folded.mean), polynomials)
            last = folded.last

            def terms(x: Array) -> Array:
                each = [
                    dot(network.hidden(x), w[:-1]) + w[-1] for network, w in zip(folded.networks, last, strict=True)
                ]
                return mean * dot(polynomials, jnp.stack(each).reshape(len(each), -1, n_band))

        x = jnp.asarray(star.x)
        each = terms(x)
        term = jnp.where(apply, each.mean(0), 0)
        raw = out["flux"] / bands.scale
        flux = raw + term
        status = out["status"] & jnp.uint32(~int(Status.NONPOSITIVE_FLUX) & 0xFFFFFFFF)
        status |= jnp.where(jnp.any(flux <= 0), int(Status.NONPOSITIVE_FLUX), 0).astype(jnp.uint32)
        status |= jnp.where(apply, 0, int(Status.NOT_CORRECTED)).astype(jnp.uint32)
        good = flux > 0
        magnitude = jnp.where(good, -2.5 * jnp.log10(jnp.where(good, flux, 1)) + bands.scaled_zero_point, jnp.nan)
        result = {"flux": flux * bands.scale, "magnitude": magnitude, "status": status}
        if errors:
            variance = (out["flux_error"] / bands.scale) ** 2
            if star.input_error is not None:
                slope = jax.vmap(lambda v: jax.jvp(lambda x: terms(x).mean(0), (x,), (v,))[1])(folded.per_input)
                variance += jnp.where(apply, jnp.sum((slope * star.input_error[:, None]) ** 2, axis=0), 0)
            error = jnp.sqrt(variance)
            result["flux_error"] = error * bands.scale
            result["magnitude_error"] = jnp.where(good, POGSON * error / flux, jnp.nan)
        if source.nodes is not None or len(folded.networks) > 1:
            left = _spread(each) ** 2 if len(folded.networks) > 1 else jnp.zeros_like(flux)
            if source.nodes is not None:
                assert folded.systematic is not None
                left += (mean * dot(source.nodes, folded.systematic)) ** 2
            result["systematic"] = jnp.where(good & apply, POGSON * jnp.sqrt(left) / flux, jnp.nan)
        return result

    return kernel


@dataclasses.dataclass(frozen=True)
class CorrectedPhotometry(Photometry):
    """Photometry with a correction; systematic (n, n_band) [mag]: what the correction leaves, apart from the errors.

    NaN where a star was not corrected, None where the model has neither table nor ensemble.
    """

    systematic: np.ndarray | None = None

    def catalogue(self, keep: Mapping[str, np.ndarray] | None = None) -> Catalogue:
        """As that of `Photometry`, with `{label}_mag_systematic_{band}`."""
        table = super().catalogue()
        status = {"xp_status": table.columns["xp_status"]}
        columns = {name: array for name, array in table.columns.items() if name != "xp_status"}
        units = dict(table.units)
        if self.systematic is not None:
            for k, (label, name) in enumerate(zip(self.system.labels, self.system.names, strict=True)):
                columns[f"{label}_mag_systematic_{name}"] = self.systematic[:, k]
                units[f"{label}_mag_systematic_{name}"] = "mag"
        return dataclasses.replace(table, columns=columns, units=units).with_columns(keep or {}, status)


def corrected_photometry(
    sources: Any,
    bands: Any,
    model: WiggleCorrection,
    stars: Features,
    *,
    system: PhotometricSystem | None = None,
    teff: np.ndarray | None = None,
    mh: np.ndarray | None = None,
    limits: Limits | None = None,
    errors: bool = True,
    extrapolate: str | None = None,
    instrument: Instrument | None = None,
    folded: FoldedCorrection | None = None,
    float64: bool = False,
    devices: Any = None,
    progress: engine.Progress | None = None,
) -> CorrectedPhotometry:
    """Synthetic magnitudes of the corrected spectra, without forming them.

    sources as for `photometry`; bands: passbands, or what `passbands` takes: the name of a published system means its
    recovered curves, with its own projections for the uncorrected part. system: other projections of these bands.
    stars: features of the same sources in the same order. extrapolate as in `passband_system`; the correction itself
    ends where it ends. folded: from `fold` for this model, these bands and at least these E(B-V). Errors are those of
    the coefficients and, where features have input errors, of the correction through them, added in quadrature;
    `systematic` is apart. Stars that are not corrected have their uncorrected magnitudes and are flagged.

    Raises ValueError for other sources, systems with color equations or flux biases, or missing columns.
    """
    curves = passbands(bands)
    base = system or _system_of(bands, curves, extrapolate, instrument)
    if base.names != curves.names:
        raise ValueError(f"the system's bands {base.names} are not those of the passbands, {curves.names}")
    if base.color_equations or any(base.standardised):
        raise ValueError(
            f"{base.labels[0]} is standardised, with color equations or flux biases that do not hold for corrected "
            "spectra; use its plain system"
        )
    table = as_sources(sources, base.release)
    if not np.array_equal(table.source_id, stars.source_id):
        raise ValueError("the features are not of these sources in this order: use features.matched(source_id)")
    c = table.coefficients
    if model.truncate and c.n_relevant is None:
        raise ValueError(f"{table.origin} has no n_relevant_bases columns, and the correction is for truncated spectra")
    with_errors = errors and c.error is not None and c.correlation is not None
    known = base.with_pair_weights() if with_errors else dataclasses.replace(base, pair_weight=None)
    known = dataclasses.replace(known, error_correction=None)
    apply, bits = applicable(model, stars, teff=teff, mh=mh, limits=limits)
    star = _stars(model, stars, apply, with_errors)
    used = np.asarray(star.ebv)[apply] if apply.any() else np.zeros(1)
    span = min(float(used.min()), 0.0), float(used.max())
    if folded is None:
        folded = fold(model, curves, base, ebv_range=span, instrument=instrument)
    elif model.dereddens and (span[0] < folded.ebv_range[0] or span[1] > folded.ebv_range[1]):
        raise ValueError(
            f"E(B-V) of {span[0]:g}..{span[1]:g} is beyond {folded.ebv_range[0]:g}..{folded.ebv_range[1]:g}, for which "
            "the correction was folded"
        )
    nodes = None
    if folded.systematic is not None and model.systematic is not None:
        nodes = model.systematic.weights(*_table_axes(stars))
    c = XPCoefficients(
        c.value,
        c.error if with_errors else None,
        c.correlation if with_errors else None,
        c.n_relevant if model.truncate else None,
        table.release,
    )
    widest = sum(sum(n.widths) for n in model.networks) + np.size(folded.mean[0]) * base.n_band
    out = run_guarded(
        lambda guard: corrected_kernel(model.truncate, with_errors, guard or model.truncate),
        (known, folded),
        _Observed(c, star, nodes),  # type: ignore[arg-type]
        float64=float64,
        devices=devices,
        work_bytes=int(4 * (widest + table.release.n_pair_total * with_errors) * (1 + float64)),
        progress=progress,
    )
    status = merge_status(table, out["status"], errors) | bits
    if errors and not with_errors:
        status = mark_no_errors(table, status)
    meta = {
        "release": table.release.name,
        "instrument_model": base.model,
        "systems": list(dict.fromkeys(base.labels)),
        "truncate": model.truncate,
        "corrected": True,
    }
    return CorrectedPhotometry(
        table.source_id,
        base,
        out["flux"],
        out.get("flux_error"),
        out["magnitude"],
        out.get("magnitude_error"),
        status,
        meta,
        out.get("systematic"),
    )


def _system_of(
    bands: Any, curves: PassbandSet, extrapolate: str | None, instrument: Instrument | None
) -> PhotometricSystem:
    """The published projections where bands name a plain published system, else those of the curves."""
    if isinstance(bands, str) and instrument is None and extrapolate is None:
        names = {name.replace("_", "").lower(): name for name in available_systems()}
        name = names.get(bands.partition(":")[0].replace("_", "").lower())
        if name is not None:
            return select_bands(load_system(name), list(curves.names))
    return passband_system(curves, extrapolate=extrapolate, instrument=instrument)


def absolute_scale(
    sources: Any, model: WiggleCorrection, stars: Features, given: Any, band: str = "G", **options: Any
) -> np.ndarray:
    """Factors (n,) on corrected fluxes that make the synthetic Gaia magnitude in a band equal a given one.

    given (n,) [mag]: phot_g_mean_mag for band "G", or BP's or RP's, with the user's corrections for magnitude terms;
    options go to `corrected_photometry`. 10^(-0.4 (given - synthetic)); NaN where either is unknown.
    """
    found = corrected_photometry(sources, f"Gaia_DR3_Vega:{band}", model, stars, **{"errors": False, **options})
    return 10 ** (-0.4 * (np.asarray(given, float) - found.magnitude[:, 0]))


# --- files ------------------------------------------------------------------------------------------------------------

_ARRAYS = ("feature_mean", "feature_scale", "low", "high", "wavelength", "blend", "r_v", "per_ebv")
_TEXTS = ("kind", "space", "law", "record")


def write_correction(path: str | Path, model: WiggleCorrection, *, overwrite: bool = False) -> None:
    """A correction as one HDF5 file, whole or not at all. Raises FileExistsError unless overwrite."""
    import h5py

    if Path(path).exists() and not overwrite:
        raise FileExistsError(f"{path} exists; name another file, or pass overwrite=True (--overwrite)")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        file.attrs.update({"format": FORMAT, "format_version": VERSION, "truncate": model.truncate})
        file.attrs.update({name: getattr(model, name) for name in _TEXTS})
        file.attrs["features"] = list(model.names)
        for name in _ARRAYS:
            file[name] = np.asarray(getattr(model, name), float)
        for k, network in enumerate(model.networks):
            for j, (weight, bias) in enumerate(zip(network.weight, network.bias, strict=True)):
                file[f"network/{k}/{j}/weight"], file[f"network/{k}/{j}/bias"] = np.asarray(weight), np.asarray(bias)
        if model.systematic is not None:
            for name in ("color", "g", "ebv", "value"):
                file[f"systematic/{name}"] = np.asarray(getattr(model.systematic, name))
    write_bytes(path, buffer.getvalue())


def read_correction(path: str | Path) -> WiggleCorrection:
    """A correction from a file of `write_correction`. Raises ValueError for another file or a newer format."""
    import h5py

    if not Path(path).exists():
        raise FileNotFoundError(f"no correction file {path}")
    try:
        with h5py.File(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise KeyError("no attribute format")
            if int(file.attrs["format_version"]) > VERSION:
                raise ValueError(
                    f"{path} has format version {int(file.attrs['format_version'])}, this xpjax knows {VERSION}: update"
                )
            networks = []
            for _, group in sorted(file["network"].items(), key=lambda item: int(item[0])):
                layers = [group[key] for key in sorted(group, key=int)]
                networks.append(Network(tuple(g["weight"][()] for g in layers), tuple(g["bias"][()] for g in layers)))
            arrays = {name: file[name][()] for name in _ARRAYS}
            texts = {name: str(file.attrs[name]) for name in _TEXTS}
            names = tuple(str(name) for name in file.attrs["features"])
            truncate = bool(file.attrs["truncate"])
            table = None
            if "systematic" in file:
                table = SystematicTable(*(file[f"systematic/{name}"][()] for name in ("color", "g", "ebv", "value")))
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} is no file of a wiggle correction ({error})") from error
    fields: dict[str, Any] = {**arrays, **texts}
    return WiggleCorrection(tuple(networks), systematic=table, names=names, truncate=truncate, **fields)


def from_torch_state(
    state: Mapping[str, Any] | str | Path,
    feature_scaler: Mapping[str, Any] | str | Path,
    *,
    names: Sequence[str],
    wavelength: Any = None,
    output_scaler: Mapping[str, Any] | str | Path | None = None,
    low: Any = None,
    high: Any = None,
    **settings: Any,
) -> WiggleCorrection:
    """A correction from a PyTorch state dict of Linear layers with ReLU between them, without torch.

    state: a mapping of arrays, or an .npz file of them, with keys `ANY.weight` (n_out, n_in) and `ANY.bias` (n_out,)
    for each layer, in the order of the layers, as `numpy.savez(file, **{k: v.numpy() for k, v in model.state_dict()
    .items()})` writes it. feature_scaler, output_scaler: mappings or .npz files with `mean_` and `scale_` (or `mean`
    and `scale`), the attributes of scikit-learn's StandardScaler. names: the features, in the scaler's order.
    wavelength [nm]: by default the 330 of the paper. low, high: the training range of the features, by default none.
    settings: further fields of `WiggleCorrection`. Raises ValueError for keys or shapes that do not fit.
    """
    arrays = _mapping(state)
    keys = [key.removesuffix(".weight") for key in arrays if key.endswith(".weight")]
    odd = [key for key in arrays if key.rpartition(".")[2] not in ("weight", "bias")]
    if not keys or odd or any(arrays[f"{key}.weight"].ndim != 2 or f"{key}.bias" not in arrays for key in keys):
        raise ValueError(
            f"the state must hold ANY.weight (n_out, n_in) and ANY.bias of Linear layers, found {list(arrays)[:8]}"
        )
    weight = [np.asarray(arrays[f"{key}.weight"], float).T for key in keys]
    bias = [np.asarray(arrays[f"{key}.bias"], float) for key in keys]
    if output_scaler is not None:
        mean, scale = _scaler(output_scaler)
        weight[-1], bias[-1] = weight[-1] * scale, bias[-1] * scale + mean
    mean, scale = _scaler(feature_scaler)
    fields: dict[str, Any] = {
        "blend": np.asarray(BLEND),
        "r_v": np.asarray(R_V),
        "per_ebv": np.asarray(AV_PER_SFD),
        "systematic": None,
        "record": json.dumps({"source": "PyTorch state"}),
        **settings,
    }
    k = len(names)
    return WiggleCorrection(
        (Network(tuple(w.astype(np.float32) for w in weight), tuple(b.astype(np.float32) for b in bias)),),
        mean,
        scale,
        np.full(k, -np.inf) if low is None else np.asarray(low, float),
        np.full(k, np.inf) if high is None else np.asarray(high, float),
        constant_grid() if wavelength is None else np.asarray(wavelength, float),
        names=tuple(names),
        **fields,
    )


def _mapping(source: Mapping[str, Any] | str | Path) -> dict[str, np.ndarray]:
    if isinstance(source, Mapping):
        return {key: np.asarray(value) for key, value in source.items()}
    try:
        with np.load(source) as file:
            return dict(file)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{source} is no .npz file of arrays ({error}); make it with numpy.savez") from error


def _scaler(source: Mapping[str, Any] | str | Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = _mapping(source)
    found = [next((arrays[key] for key in (f"{name}_", name) if key in arrays), None) for name in ("mean", "scale")]
    if found[0] is None or found[1] is None:
        raise ValueError(f"a scaler needs mean_ and scale_, found {list(arrays)}")
    return np.asarray(found[0], float), np.asarray(found[1], float)
