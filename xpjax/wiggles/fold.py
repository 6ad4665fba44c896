"""A network multiplied into passbands: all that its part in their fluxes needs, made once on the host.

Seen through a passband the additive term of a correction (`xpjax.wiggles.network`) is

    <f 10^(0.4 A)> sum_j w_j q_j(E),   q_j(E) = int hat_j T l^p 10^(-0.4 A) dl / norm

and w = h W with the last layer W. q and the mean's row of the coefficients are Chebyshev series in E(B-V), exact to
1e-8, and W is multiplied into them beforehand: a star costs its hidden layers and two small products.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.constants import FLUX_UNIT, MERGE_RANGE, XP_RANGE
from xpjax.core.linalg import interpolation
from xpjax.core.records import AnyArray
from xpjax.synthetic import Passband, PhotometricSystem, band_weights
from xpjax.wiggles.features import combination
from xpjax.wiggles.network import Network, WiggleCorrection
from xpjax.xp import Instrument, load_instrument, named_correction

SHORTEST, LONGEST = 12, 48
"""Terms of a series that are tried; 48 are more than any E(B-V) up to 10 needs."""
SERIES = 1e-8
"""Where the series in E(B-V) end, relative to their largest term."""
FINE = 1.0
"""Longest step [nm] between samples of a multiplicative correction."""


class FoldedCorrection(eqx.Module):
    """A correction multiplied into passbands: all that its part in their fluxes needs.

    Additive: last (n_network, n_hidden + 1, n_term * n_band) scaled fluxes per normalized flux, the last row for the
    bias; mean (n_basis_total, n_term), the row of the mean flux [FLUX_UNIT]; terms of Chebyshev series in E(B-V) over
    ebv_range (2,). Multiplicative: product is sample (n_basis_total, n_fine), fine samples of the flux, band (n_fine,
    n_band), which sees their product with w, below (n_fine,), and share (2, n_fine): w there is the output at below and
    the next wavelength with these weights.
    systematic (n_node, n_band) or None: the table's nodes seen through the bands, per mean flux.
    """

    networks: tuple[Network, ...]
    last: Float[AnyArray, "n_network n_hidden n_out"] | None
    mean: Float[AnyArray, "n_basis_total n_term"]
    product: tuple[AnyArray, AnyArray, AnyArray, AnyArray] | None
    ebv_range: Float[AnyArray, " 2"]
    per_input: Float[AnyArray, "n_input n_feature"] | None
    systematic: Float[AnyArray, "n_node n_band"] | None


def fold(
    model: WiggleCorrection,
    bands: Sequence[Passband],
    system: PhotometricSystem,
    *,
    ebv_range: tuple[float, float] = (0.0, 1.0),
    instrument: Instrument | None = None,
    base: Any = None,
) -> FoldedCorrection:
    """Fold the last layer, the passbands and the reddening of E(B-V) within a range into one matrix, on the host.

    bands: the curves, in the order of the system's bands, whose scales the result has. base: the linear correction that
    the model stands on, see `NetworkCorrection`. It takes a fifth of a second.
    """
    chosen = (instrument or load_instrument(release=system.release)).corrected(named_correction(model.base, base))
    own = np.asarray(model.wavelength, float)
    design = chosen.design(own)
    sampled = np.asarray(design.value) * (float(design.scale) / FLUX_UNIT)
    low, high = ebv_range
    high = max(high, low + 1e-3)
    ends = (own[0] - float(model.blend), own[-1] + float(model.blend))
    nodes = [_seen(band, own, ends) for band in bands]
    # At the nodes of each passband's integral: w's matrix, flux seen per flux [W m-2 nm-1], and the dust's exponent.
    parts = [(model.interpolation(x), seen, model.exponent(x)) for x, seen in nodes]
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
    return FoldedCorrection(tuple(hidden), product, mean.T, None, limits, scaled, systematic)


def _fold_product(
    model: WiggleCorrection, bands: Sequence[Passband], unit: np.ndarray, instrument: Instrument, per_input: np.ndarray
) -> FoldedCorrection:
    """The multiplicative case: f w is sampled finely, and a local cubic between samples."""
    own, blend = np.asarray(model.wavelength, float), float(model.blend)
    ends = np.clip([own[0] - blend, own[-1] + blend], *XP_RANGE)
    knots = np.unique(np.concatenate([ends[:1], own, ends[1:]]))
    pieces = [np.linspace(a, b, int(np.ceil((b - a) / FINE)) + 1)[:-1] for a, b in itertools.pairwise(knots)]
    fine = np.concatenate([*pieces, ends[1:]])
    design = instrument.design(fine)
    sampled = np.asarray(design.value) * (float(design.scale) / FLUX_UNIT)
    below, share = model.shares(fine)
    through = []
    for band in bands:
        x, seen = _seen(band, fine, (fine[0], fine[-1]))
        through.append(interpolation(fine, x).T @ seen)
    product = (sampled, np.stack(through, axis=1) * unit, below.astype(np.int32), share)
    mean, limits = np.zeros((len(sampled), 1)), np.array([0.0, 1.0])
    return FoldedCorrection(model.networks, None, mean, product, limits, per_input, None)


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


def polynomials(folded: FoldedCorrection, ebv: Array) -> Array:
    """Chebyshev polynomials (n_term,) at E(B-V)."""
    low, high = folded.ebv_range[0], folded.ebv_range[1]
    t = (2 * ebv - low - high) / (high - low)
    n = folded.mean.shape[-1]
    values = [jnp.ones_like(t), t]
    for _ in range(n - 2):
        values.append(2 * t * values[-1] - values[-2])
    return jnp.stack(values[:n])
