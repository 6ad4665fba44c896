"""What a network predicts and leaves: residuals of stars by their features, and the table of systematic errors."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core import engine
from xpjax.wiggles.features import Features
from xpjax.wiggles.network import SystematicTable, WiggleCorrection
from xpjax.wiggles.residuals import Residuals

EDGES = {"color": np.arange(-0.5, 4.1, 0.5), "g": np.arange(4.0, 18.1, 1.0), "ebv": np.array([0.0, 0.1, 0.3, 1.0, 5.0])}
"""Bins of the table of systematic errors."""
PER_BIN = 20
"""Bins with fewer stars take the figures of all stars."""


def _pattern_kernel(model: WiggleCorrection, x: Array) -> Array:
    return jnp.stack([network(x) for network in model.networks]).mean(0)


def predict_residuals(model: WiggleCorrection, stars: Features, *, devices: engine.Devices = None) -> np.ndarray:
    """Predict the residuals of spectra from the features of the stars.

    Parameters
    ----------
    model : WiggleCorrection
        A network.
    stars : Features
        Features of n stars.
    devices : optional
        Device names as of `xpjax.photometry`.

    Returns
    -------
    (n, n_wavelength) array
        True minus observed mean-normalized flux (or true over observed, minus one); NaN where a feature is missing.

    Examples
    --------
    >>> state = {"0.weight": np.zeros((330, 1)), "0.bias": np.full(330, 0.01)}
    >>> model = xpjax.wiggles.network_from_torch(state, {"mean_": [0.8], "scale_": [0.3]}, names=["BP-RP"])
    >>> stars = xpjax.wiggles.make_features({"BP": [10.5], "RP": [9.8]}, "color")
    >>> xpjax.wiggles.predict_residuals(model, stars)[0, :2]
    array([0.01, 0.01], dtype=float32)
    """
    value = stars.select(model.names).value
    x = (value - np.asarray(model.feature_mean)) / np.asarray(model.feature_scale)
    bare = dataclasses.replace(model, systematic=None, record="{}")
    return engine.run(_pattern_kernel, bare, x, devices=devices, work_bytes=4 * sum(model.networks[0].widths))


def remaining(model: WiggleCorrection, residuals: Residuals) -> np.ndarray:
    """What the correction leaves of residuals (n, n_wavelength)."""
    return np.asarray(residuals.residual) - predict_residuals(model, residuals.stars)


def systematic_table(model: WiggleCorrection, held_out: Residuals) -> SystematicTable:
    """RMS of what is left in bins of BP-RP, G and E(B-V), of stars that were not trained on.

    An axis whose feature is not there has one node. Noise of the residuals is part of the figures: they are an upper
    limit.
    """
    left = remaining(model, held_out)
    stars = held_out.stars
    columns = {"color": "BP-RP", "g": "G", "ebv": "E(B-V)"}
    nodes, place = {}, np.zeros(len(left), int)
    for axis, name in columns.items():
        x = stars.value[:, stars.names.index(name)] if name in stars.names else None
        if axis == "ebv" and x is None:
            x = stars.ebv
        if x is None or not np.isfinite(x).all():
            nodes[axis] = np.zeros(1)
            continue
        edges = EDGES[axis]
        inner = edges[(edges > x.min()) & (edges < x.max())]
        edges = np.concatenate([[x.min()], inner, [x.max()]])
        nodes[axis] = 0.5 * (edges[1:] + edges[:-1])
        bins = np.clip(np.searchsorted(inner, x, side="right"), 0, len(nodes[axis]) - 1)
        place = place * len(nodes[axis]) + bins
    shape = tuple(len(n) for n in nodes.values())
    square = np.where(np.isfinite(left), left**2, 0)
    count = np.isfinite(left).astype(float)
    n_bin = int(np.prod(shape))
    sums, counts = np.zeros((n_bin, left.shape[1])), np.zeros((n_bin, left.shape[1]))
    np.add.at(sums, place, square)
    np.add.at(counts, place, count)
    overall = square.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    value = np.where(counts >= PER_BIN, sums / np.maximum(counts, 1), overall)
    return SystematicTable(nodes["color"], nodes["g"], nodes["ebv"], np.sqrt(value).reshape(*shape, -1))
