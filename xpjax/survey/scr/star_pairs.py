"""Reddening of stars from star pairs: reddened stars and unreddened stars of the same labels."""

from __future__ import annotations

import numpy as np

PAIR_SCALE = (100.0, 0.2, 0.1)
"""Teff [K], log g, [Fe/H]: how far apart counts as one."""
NEIGHBORS, REACH = 20, 3.0
"""Control stars that a star is compared with, and how far the farthest may be."""


def star_pair_reddening(
    color: np.ndarray,
    color_error: np.ndarray,
    labels: np.ndarray,
    control: np.ndarray,
    control_reddening: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Reddening (n,) of stars and its error [mag]: color minus the color of unreddened stars of the same labels.

    color, color_error (n,): BP-RP. labels (n, 3): Teff, log g, [Fe/H]. control (n,): stars of little reddening, which
    control_reddening (n,) is subtracted from. The unreddened color is the local plane through the `NEIGHBORS` nearest
    control stars, never the star itself, weighted by a Gaussian of distance and their errors. NaN where the farthest
    of these is beyond `REACH` in units of `PAIR_SCALE`, or fewer are there (Yuan et al. 2013, MNRAS 430, 2188).
    """
    from scipy.spatial import cKDTree

    x = np.asarray(labels, float) / np.asarray(PAIR_SCALE)
    good = np.isfinite(x).all(axis=1) & np.isfinite(color) & np.isfinite(color_error)
    bare = color - control_reddening
    mine = np.flatnonzero(control & good & np.isfinite(bare))
    value, error = np.full(len(x), np.nan), np.full(len(x), np.nan)
    rows = np.flatnonzero(good)
    if len(mine) <= NEIGHBORS or not len(rows):
        return value, error
    distance, near = cKDTree(x[mine]).query(x[rows], k=NEIGHBORS + 1)
    near = mine[near]
    distance = np.where(near == rows[:, None], np.inf, distance)
    order = np.argsort(distance, axis=1, kind="stable")[:, :NEIGHBORS]
    distance, near = np.take_along_axis(distance, order, 1), np.take_along_axis(near, order, 1)
    close = distance[:, -1] < REACH
    rows, distance, near = rows[close], distance[close], near[close]
    width = np.maximum(distance[:, -1:], 1e-3) / 1.5
    # Control stars without errors have equal weights; the variance comes from their scatter.
    typical = np.median(color_error[mine])
    weight = np.exp(-0.5 * (distance / width) ** 2) / np.maximum(color_error[near] ** 2 + typical**2, 1e-12)
    design = np.concatenate([np.ones((*near.shape, 1)), x[near] - x[rows][:, None]], axis=2)
    normal = np.einsum("nki,nk,nkj->nij", design, weight, design)
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(4)
    inverse = np.linalg.inv(normal)
    give = np.einsum("ni,nki,nk->nk", inverse[:, 0], design, weight)  # the plane at the star is give . colors
    value[rows] = color[rows] - (give * bare[near]).sum(axis=1)
    plane = np.einsum("nij,nkj,nk->ni", inverse, design, weight * bare[near])
    off = bare[near] - np.einsum("nki,ni->nk", design, plane)
    scatter = (weight * off**2).sum(axis=1) / weight.sum(axis=1) * NEIGHBORS / (NEIGHBORS - 4)
    # The star scatters about the plane as the control stars do, label errors included.
    beyond = np.maximum(scatter - typical**2, 0)
    error[rows] = np.sqrt(beyond + color_error[rows] ** 2 + scatter * (give**2).sum(axis=1))
    return value, error
