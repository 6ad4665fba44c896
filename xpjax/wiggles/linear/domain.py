"""Where a linear correction holds: directions in which unusual stars differ from ordinary ones and from photon noise.

With b the leading coefficients of each XP and m the mean flux that they tell, s = b / m is the shape of a star.
Ordinary are the pairs, bare and behind some dust, and mock stars; their second moment about their mean, with the noise
of faint stars, is the metric N. Unusual are M dwarfs, heavily reddened stars, quasars and carbon stars, made here. The
directions q are the leading ones of their unit vectors, q' N q = 1: they tell what a star is, not how noisy. Then

    d^2 = sum_k (q_k . (s - mean))^2 / SCALE

Errors of pairs and of their copies behind dust, left out, grow as 1 + d^2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpjax.wiggles.linear.fit import Population, behind_dust, dimming, level, multiplied, photon_noise
from xpjax.wiggles.linear.pairs import Pairs, gaia_magnitudes
from xpjax.xp import Domain, simulate_sources

LEAD = 14
"""Leading coefficients of each XP that the domain looks at."""
DIRECTIONS = 4
"""Of the shape: fewer miss quasars, more see noise."""
SCALE = 60.0
"""Of squared distances: where errors are twice as large in variance as near the pairs."""
LIMIT = 1.0
"""d^2 beyond which a change fades."""
COOL = 2.0
"""BP-RP [mag] beyond which a star is not ordinary."""
DUST, HEAVY = (0.5, 1.0), (2.2, 3.0)
"""E(B-V) behind which pairs are ordinary, and unusual."""
FAINT = (17.3, 17.65)
"""G of the stars whose noise is no distance."""
REDSHIFTS = (0.5, 1.0, 1.5, 2.0, 2.5)
QUASAR_LINES = (
    (121.6, 3.0, 3.0),
    (154.9, 1.5, 3.0),
    (190.9, 0.7, 4.0),
    (279.8, 0.6, 3.0),
    (486.1, 0.6, 3.0),
    (656.3, 2.0, 3.0),
)
"""Wavelength [nm], height over the continuum and standard deviation [nm] of quasars' broad lines at rest."""
SWAN_HEADS = (473.7, 516.5, 563.6, 619.0)
"""Heads [nm] of the bands of C2 in carbon stars."""


def quasar(redshift: float) -> Callable[[np.ndarray], np.ndarray]:
    """Broad lines at a redshift, relative to the continuum, as a function of wavelength [nm]."""

    def factor(x: np.ndarray) -> np.ndarray:
        rest = x / (1 + redshift)
        return np.asarray(1 + sum(p * np.exp(-0.5 * ((rest - at) / s) ** 2) for at, p, s in QUASAR_LINES))

    return factor


def carbon(x: np.ndarray) -> np.ndarray:
    """Bands of C2, shaded to the blue, behind a little dust, at wavelengths x [nm]."""
    depth = sum(0.9 * np.exp(np.where(x < head, (x - head) / 12, head - x)) for head in SWAN_HEADS)
    return np.asarray(np.exp(-depth) * dimming(x, 0.3))


def make_domain(pairs: Pairs, population: Population) -> Domain:
    """The domain of pairs; population: ordinary stars, which say what flux does not of stars that are made here."""
    model = pairs.instrument
    places = np.concatenate([np.arange(rows.start, rows.start + LEAD) for rows in model.release.slices])
    second = population.covariance + np.outer(population.center, population.center)
    # Of ordinary stars the level is one: the best guess of it from the leading coefficients alone.
    row = level(np.eye(model.release.n_basis_total), model)[:, 0]
    weights = np.linalg.lstsq(second[np.ix_(places, places)], second[places] @ row, rcond=1e-12)[0]

    def shape(coefficients: np.ndarray) -> np.ndarray:
        b = coefficients[:, places]
        return np.asarray(b / (b @ weights)[:, None])

    _, bp, rp = gaia_magnitudes(pairs)
    ordinary = (bp - rp < COOL) & np.isfinite(bp - rp)
    bare = pairs.coefficients[ordinary][np.argsort((bp - rp)[ordinary])]
    mocks = simulate_sources(40_000, 11, correlations=False, release=pairs.instrument.release, dtype=np.float64)
    g, color = (np.asarray(mocks.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    value = np.asarray(mocks.coefficients.value, float)
    dusty = [behind_dust(bare, e, population, model) for e in DUST]
    groups = [shape(c) for c in (bare, *dusty, value[(g < 14) & (color < COOL)])]
    mean = np.mean([s.mean(axis=0) for s in groups], axis=0)
    metric = np.mean([(s - mean).T @ (s - mean) / len(s) for s in groups], axis=0)
    metric += photon_noise(model, FAINT)[np.ix_(places, places)]
    third = len(bare) // 3
    unusual = [
        value[(color > 2.5) & (g < 15.5)],
        np.concatenate([behind_dust(bare[::3], e, population, model) for e in HEAVY]),
        np.concatenate([multiplied(bare[third : third + 6], quasar(z), population, model) for z in REDSHIFTS]),
        multiplied(bare[-12:], carbon, population, model),
    ]
    size, vector = np.linalg.eigh(metric)
    white = vector / np.sqrt(np.clip(size, 1e-9 * size[-1], None))
    between = np.zeros((len(places), len(places)))
    for coefficients in unusual:
        d = (shape(coefficients) - mean) @ white
        d /= np.sqrt((d**2).sum(axis=1, keepdims=True))
        between += d.T @ d / len(d)
    direction = white @ np.linalg.eigh(between)[1][:, -DIRECTIONS:] / np.sqrt(SCALE)
    return Domain(direction, weights, mean @ direction, np.asarray(LIMIT), (LEAD,) * len(model.release.xp))
