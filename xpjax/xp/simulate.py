"""Mock XP sources of any number, with realistic spectra, errors and correlations; NumPy only.

The model (`data/population_dr3.h5`, made by tools/build_population.py from about 3,000 real sources) holds: counts in
G and BP-RP; the mean spectrum at each BP-RP, and the scatter about it; errors as functions of the magnitude in each XP
and BP-RP; correlation matrices on a grid in G and BP-RP. For each source, in this order:

    shape = mean(BP-RP) + scatter z;  true = 10^(-0.4 (G - 15)) shape
    ln error = curve(magnitude) + color terms + factor of the source + small scatter
    R = w R_a + (1 - w) R_b;  value = true + error (sqrt(w) L_a z1 + sqrt(1 - w) L_b z2),  L L' = R

so that the noise has exactly the covariance that is reported. n_relevant follows from the values and errors by the
rule of `relevant_bases`. Sources come in blocks with a random stream each: the first n of m > n sources are those of n.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from xpjax.core.constants import POGSON
from xpjax.core.engine import aligned
from xpjax.core.errors import XpjaxError
from xpjax.core.paths import DATA
from xpjax.core.release import DR3, Release, find_release
from xpjax.io.hdf5 import open_hdf5
from xpjax.xp.sources import HEALPIX_LEVEL, HEALPIX_SHIFT, SourceTable, XPCoefficients
from xpjax.xp.transits import Variability, simulate_transits

BLOCK = 4096
"""Sources that share a random stream."""
NOISE_ROWS = 256
"""Sources whose correlation matrices are decomposed at once: some 12 MB."""
COLORS = (-0.4, 3.4)
"""BP-RP within which errors follow the color."""

EXTRAPOLATED = "xp_correlation_extrapolated"
MAGNITUDES = ("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag")
COLUMNS = {
    "ra": np.float64,
    "dec": np.float64,
    **dict.fromkeys((*MAGNITUDES, "bp_rp"), np.float32),
    EXTRAPOLATED: np.bool_,
}


class _Population:
    """The stored model, cut to the basis functions of a release; see tools/build_population.py for its making."""

    def __init__(self, release: Release) -> None:
        with open_hdf5(DATA / "population_dr3.h5") as file:
            sizes = tuple(int(n) for n in file.attrs["release_n_basis"])
            if release.xp != tuple(file.attrs["release_xp"]) or np.any(np.greater(release.n_basis, sizes)):
                raise XpjaxError(
                    f"{release.name} has {release.n_basis} basis functions for {release.xp}, but the population is "
                    f"known for at most {sizes} for {tuple(file.attrs['release_xp'])}"
                )
            full = Release("stored", sizes, release.xp)
            pairs = list(zip(full.slices, release.n_basis, strict=True))
            kept = np.concatenate([np.arange(rows.start, rows.start + n) for rows, n in pairs])
            both = list(zip(full.pair_slices, release.n_pair, strict=True))
            kept_pair = np.concatenate([np.arange(rows.start, rows.start + n) for rows, n in both])
            self.projection = file["projection"][()][kept]
            self.g_cdf, self.g = file["count/cumulative"][()], file["count/g"][()]
            self.color_g, self.color_cdf = file["color/g"][()], file["color/cumulative"][()]
            self.color, self.mean = file["mean/color"][()].astype(float), file["mean/value"][()][:, kept]
            self.scatter_color, self.scatter = file["scatter/color"][()], file["scatter/factor"][()][..., kept]
            self.quantile, self.skew = file["quantile"][()], file["scatter/skew"][()]
            self.magnitude, self.curve = file["error/magnitude"][()].astype(float), file["error/curve"][()][:, kept]
            self.slope, self.component = file["error/slope"][()][:, kept], file["error/component"][()][:, kept]
            self.factor, self.white = file["error/factor"][()], np.asarray(file.attrs["error_white"], np.float32)
            self.factor_correlation = float(file.attrs["error_factor_correlation"])
            self.correlation_g = file["correlation/g"][()]
            self.correlation_color = file["correlation/color"][()]
            self.correlation = np.ascontiguousarray(file["correlation/packed"][()][:, kept_pair])
            self.hull = file["correlation/hull"][()]
        self.release = release
        self.root = [self._cholesky(k) for k in range(len(release.xp))]

    def _cholesky(self, k: int) -> np.ndarray:
        """L' (n_library, n_basis, n_basis) of one XP, L L' = R."""
        n = self.release.n_basis[k]
        full = np.zeros((len(self.correlation), n, n)) + np.eye(n)
        rows, columns = np.tril_indices(n, -1)
        full[:, rows, columns] = full[:, columns, rows] = self.correlation[:, self.release.pair_slices[k]]
        return np.ascontiguousarray(np.linalg.cholesky(full).swapaxes(1, 2), np.float32)


_population = functools.lru_cache(maxsize=4)(_Population)


def simulate_sources(
    n: int,
    seed: int = 0,
    *,
    correlations: bool = True,
    release: Release | str = DR3,
    dtype: type[np.floating] = np.float32,
    transits: int | None = None,
    variability: Variability | None = None,
) -> SourceTable:
    """Simulate XP sources with realistic spectra, errors and correlations.

    Parameters
    ----------
    n : int
        Number of sources.
    seed : int
        The same seed gives the same sources, the first ones whatever n.
    correlations : bool
        Whether the sources have correlations, which take 12 kB each.
    release : Release or str
        Data release, such as "Gaia DR4"; its basis functions are the first ones of those of DR3, whatever its own are.
    dtype : type
        float32 or float64, of the coefficients, errors and correlations.
    transits : int, optional
        Epoch spectra: so many transits of each source, in rows of their own, within the 66 months of Gaia DR4. A third
        of them lack BP or RP, and errors are those of one transit, sqrt(40) times those of the mean spectrum.
    variability : callable, optional
        What epoch spectra are fainter by [mag], of times (n, transits) [d since 2010.0]: an array of the same shape, or
        (n, transits, 2) for BP and RP apart.

    Returns
    -------
    SourceTable
        Sources of G 4..17.65 and BP-RP -0.6..4, with the columns ra and dec [deg] within the HEALPix pixel of
        source_id; phot_g_mean_mag, phot_bp_mean_mag, phot_rp_mean_mag and bp_rp [mag], synthetic magnitudes of the
        spectrum without noise; xp_correlation_extrapolated, whether G and BP-RP are outside the hull of the real
        sources whose correlations are known.

    Raises
    ------
    XpjaxError
        If n or the seed is negative, or the release has more basis functions than DR3.

    Notes
    -----
    The noise has exactly the covariance that is reported: value = true + error L z with L L' = R. The population is
    modeled on some 3,000 sources of Gaia DR3.

    Examples
    --------
    >>> sources = xpjax.simulate_sources(5, seed=1)
    >>> sources.coefficients.value.shape
    (5, 110)
    >>> epochs = xpjax.simulate_sources(2, seed=1, transits=40)
    >>> len(epochs), epochs.columns["transit_id"].dtype
    (80, dtype('int64'))
    """
    if n < 0 or seed < 0:
        raise XpjaxError(f"the number of sources and the seed must not be negative: {n}, {seed}")
    if variability is not None and transits is None:
        raise XpjaxError("variability is of epoch spectra: give the number of transits")
    release = find_release(release)
    model, made = _population(release), _Made(n, release, dtype, correlations)
    # NumPy lets go of the interpreter in all that takes time here.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        list(pool.map(lambda start: made.fill(model, seed, start), range(0, n, BLOCK)))
    coefficients = XPCoefficients(made.value, made.error, made.correlation, made.n_relevant, release)
    table = SourceTable(made.source_id, coefficients, np.zeros(n, np.uint32), made.columns, f"simulated (seed {seed})")
    return table if transits is None else simulate_transits(table, transits, seed, variability)


def true_coefficients(n: int, seed: int = 0, release: Release = DR3) -> np.ndarray:
    """Coefficients (n, n_basis_total) without noise of the sources that `simulate_sources(n, seed)` makes."""
    model = _population(release)
    blocks = range(0, n, BLOCK)
    parts = [_truth(model, _block_stream(seed, start))[0][: n - start] for start in blocks]
    return np.concatenate(parts) if parts else np.empty((0, release.n_basis_total), np.float32)


def _block_stream(seed: int, start: int) -> np.random.Generator:
    """The random stream of the block of sources that begins at start."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, start // BLOCK])))


class _Made:
    """The arrays of n sources, filled block by block."""

    def __init__(self, n: int, release: Release, dtype: type[np.floating], correlations: bool) -> None:
        self.n = n
        self.value, self.error = (aligned((n, release.n_basis_total), dtype) for _ in range(2))
        self.correlation = aligned((n, release.n_pair_total), dtype) if correlations else None
        self.n_relevant = np.empty((n, len(release.xp)), np.int16)
        self.source_id = np.empty(n, np.int64)
        self.columns: dict[str, np.ndarray] = {name: np.empty(n, kind) for name, kind in COLUMNS.items()}

    def fill(self, model: _Population, seed: int, start: int) -> None:
        """Make the block of sources that begins at start."""
        # A block is always made in full, so that the last one does not depend on n.
        rows = slice(start, min(start + BLOCK, self.n))
        size = rows.stop - start
        rng = _block_stream(seed, start)
        truth, part = _truth(model, rng)
        place, part["ra"], part["dec"] = _positions(rng, HEALPIX_LEVEL)
        e = _errors(model, rng, part)
        first, second, weight = _mix(model, rng, part)
        noise = _noise(model, rng, first) * np.sqrt(weight)[:, None]
        noise += _noise(model, rng, second) * np.sqrt(1 - weight)[:, None]
        noise *= e
        truth += noise
        self.value[rows], self.error[rows] = truth[:size], e[:size]
        self.n_relevant[rows] = relevant_bases(truth, e, model.release)[:size]
        number = np.arange(start, start + BLOCK)
        # As in the archive the last 7 bits are zero (until the 28 bits above them are used up).
        self.source_id[rows] = (place << HEALPIX_SHIFT | (number & (2**28 - 1)) << 7 | number >> 28)[:size]
        for name in COLUMNS:
            self.columns[name][rows] = part[name][:size]
        if self.correlation is not None:
            for i in range(0, size, 64):  # small enough for the cache
                use = slice(i, min(i + 64, size))
                mixed = model.correlation[first[use]]
                mixed *= weight[use, None]
                other = model.correlation[second[use]]
                other *= (1 - weight[use])[:, None]
                out = self.correlation[start + use.start : start + use.stop]
                np.add(mixed, other, out=out, casting="same_kind")


def relevant_bases(value: np.ndarray, error: np.ndarray, release: Release = DR3) -> np.ndarray:
    """Number of relevant bases (n, n_xp) of coefficients (n, n_basis_total) with their errors, at least 1.

    One more than the last k for which the coefficients k, k+1, ... over their errors have a standard deviation above
    1 + 2/sqrt(2 (m - 1)), m >= 3 of them: what noise alone would not give. Found from the archive, whose numbers follow
    it in each of 1200 DR3 sources.
    """
    ratio = np.ascontiguousarray(np.divide(value, error).T)
    out = np.ones((len(value), len(release.xp)), np.int16)
    for k, rows in enumerate(release.slices):
        # Summed from the end, where ratios are of order one: no digits are lost to the large first ones.
        tail = ratio[rows]
        total, squares = np.zeros((2, len(value)), ratio.dtype)
        for j in range(len(tail) - 1, -1, -1):
            total += tail[j]
            squares += tail[j] ** 2
            m = len(tail) - j
            if m > 2:
                limit = (1 + 2 / np.sqrt(2 * (m - 1))) ** 2 * (m - 1)
                above = (out[:, k] == 1) & (squares - total**2 / m > limit)
                out[above, k] = j + 1
    return out


class TypicalErrors(NamedTuple):
    """Errors of ordinary sources: error (n, n_basis_total), packed correlation (n, n_pair_total), noise like error.

    outside (n,): whether G and BP-RP are outside the hull of the real sources whose correlations are known.
    """

    error: np.ndarray
    correlation: np.ndarray
    noise: np.ndarray | None
    outside: np.ndarray


def gaia_magnitudes(value: np.ndarray) -> np.ndarray:
    """Synthetic G, BP and RP (n, 3) of coefficients (n, n_basis_total) of DR3; NaN for fluxes that are not positive."""
    flux = value @ _population(DR3).projection
    return np.asarray(-2.5 * np.log10(np.where(flux > 0, flux, np.nan)))


def typical_errors(
    magnitude: np.ndarray, release: Release = DR3, seed: int | Sequence[int] | None = None
) -> TypicalErrors:
    """Errors and correlations that sources of these G, BP and RP (n, 3) have in the median.

    They are those of `simulate_sources` without the scatter from source to source; correlations are interpolated
    linearly in G and BP-RP. seed: also draws noise of exactly this covariance.
    """
    model, n = _population(release), len(magnitude)
    error = np.empty((n, release.n_basis_total))
    color = magnitude[:, 1] - magnitude[:, 2]
    bent = np.clip(color, *COLORS) - 1
    slope = np.stack([bent, bent * bent], axis=1) @ model.slope
    for k, rows in enumerate(release.slices):
        m = magnitude[:, 1 + k]
        common = np.maximum(model.magnitude[0] - m, 0) / POGSON + np.interp(0.5, model.quantile, model.factor[k])
        curve = _between(model.curve[:, rows].astype(float), *_cell(m, model.magnitude))
        error[:, rows] = np.exp(curve + slope[:, rows] + common[:, None])
    (i, f), (j, h) = _cell(magnitude[:, 0], model.correlation_g), _cell(color, model.correlation_color)
    width = len(model.correlation_color)
    correlation = np.zeros((n, release.n_pair_total), np.float32)
    for di, wi in ((0, 1 - f), (1, f)):
        for dj, wj in ((0, 1 - h), (1, h)):
            correlation += (wi * wj).astype(np.float32)[:, None] * model.correlation[(i + di) * width + j + dj]
    noise = None if seed is None else _correlated(correlation, release, seed) * error
    outside = np.any(magnitude[:, :1] * model.hull[:, 0] + color[:, None] * model.hull[:, 1] + model.hull[:, 2] > 0, 1)
    return TypicalErrors(error, correlation, noise, outside)


def _correlated(correlation: np.ndarray, release: Release, seed: int | Sequence[int]) -> np.ndarray:
    """Noise (n, n_basis_total) of unit variance with packed correlations (n, n_pair_total), L z with L L' = R."""
    n = len(correlation)
    z = np.random.default_rng(seed).standard_normal((n, release.n_basis_total))
    known = np.isfinite(correlation).all(axis=1)
    for start in range(0, n, NOISE_ROWS):
        use = np.arange(start, min(start + NOISE_ROWS, n))[known[start : start + NOISE_ROWS]]
        for rows, pairs, size in zip(release.slices, release.pair_slices, release.n_basis, strict=True):
            full = np.zeros((len(use), size, size)) + np.eye(size)
            low, high = np.tril_indices(size, -1)
            full[:, low, high] = full[:, high, low] = correlation[use, pairs]
            z[use, rows] = np.einsum("nij,nj->ni", np.linalg.cholesky(full), z[use, rows])
    z[~known] = np.nan
    return z


# --- one block --------------------------------------------------------------------------------------------------------


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b by rows, in pieces that BLAS computes in one thread: its threads and ours would be in each other's way."""
    out = np.empty((a.shape[0], b.shape[1]), np.result_type(a, b))
    step = max(2**18 // b.size // 8 * 8, 8)
    for i in range(0, len(a), step):
        np.matmul(a[i : i + step], b, out=out[i : i + step])
    return out


def _cell(x: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index i of the node below x (n,) and the weight of node i + 1 in linear interpolation, clamped at the ends."""
    i = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    return i, np.clip((x - nodes[i]) / (nodes[i + 1] - nodes[i]), 0, 1).astype(np.float32)


def _nearby(rng: np.random.Generator, x: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """One of the two nodes about x (n,), the nearer one more often: linear interpolation in distribution."""
    i, f = _cell(x, nodes)
    return i + (rng.random(len(x), np.float32) < f)


def _between(table: np.ndarray, i: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Rows of a table (n_node, m), interpolated linearly: (n, m)."""
    out = np.take(table, i + 1, axis=0)
    below = np.take(table, i, axis=0)
    out -= below
    out *= f[:, None]
    out += below
    return out


def _quantile(model: _Population, table: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The quantile function of each row, tabulated at the model's levels (n, n_level), at levels u (n,)."""
    i, f = _cell(u, model.quantile)
    rows = np.arange(len(u))
    return table[rows, i] * (1 - f) + table[rows, i + 1] * f


def _truth(model: _Population, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Coefficients (n, n_basis_total) without noise, and their synthetic magnitudes by column name."""
    from scipy.special import ndtr

    g = np.interp(rng.random(BLOCK), model.g_cdf, model.g)
    color = np.empty(BLOCK)
    level, node = rng.random(BLOCK), _nearby(rng, g, model.color_g)
    for j in range(len(model.color_g)):
        color[node == j] = np.interp(level[node == j], model.color_cdf[j], model.color)
    shape = _between(model.mean, *_cell(color, model.color))
    node = _nearby(rng, color, model.scatter_color)
    z = rng.standard_normal((BLOCK, model.scatter.shape[1]), np.float32)
    for j in range(model.skew.shape[1]):
        z[:, j] = _quantile(model, model.skew[node, j], ndtr(z[:, j]))
    for j, rows in _groups(node):
        shape[rows] += _product(z[rows], model.scatter[j])
    shape *= (10 ** (-0.4 * (g - 15))).astype(np.float32)[:, None]
    flux = _product(shape, model.projection)
    magnitude = (-2.5 * np.log10(flux)).astype(np.float32)
    part = {name: magnitude[:, k] for k, name in enumerate(MAGNITUDES)}
    return shape, {**part, "bp_rp": magnitude[:, 1] - magnitude[:, 2]}


def _errors(model: _Population, rng: np.random.Generator, part: dict[str, np.ndarray]) -> np.ndarray:
    """Errors (n, n_basis_total) float32; as the flux where brighter than any real source with errors."""
    from scipy.special import ndtr

    z = rng.standard_normal((2, BLOCK))
    z[1] = model.factor_correlation * z[0] + np.sqrt(1 - model.factor_correlation**2) * z[1]
    c = np.clip(part["bp_rp"], *COLORS) - 1
    out = _product(np.stack([c, c * c], axis=1), model.slope)
    for k, rows in enumerate(model.release.slices):
        m = part[f"phot_{model.release.xp[k]}_mean_mag"].astype(float)
        common = np.maximum(model.magnitude[0] - m, 0) / POGSON
        common += np.interp(ndtr(z[k]), model.quantile, model.factor[k])
        out[:, rows] += _between(model.curve[:, rows], *_cell(m, model.magnitude)) + common[:, None].astype(np.float32)
        out[:, rows] += _product(rng.standard_normal((BLOCK, 3), np.float32), model.component[:, rows])
        out[:, rows] += model.white[k] * rng.standard_normal((BLOCK, rows.stop - rows.start), np.float32)
    return np.exp(out, out=out)


def _mix(
    model: _Population, rng: np.random.Generator, part: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two matrices of the library (n,) each, on either side of G at one color, and the weight (n,) of the first."""
    g, color = part["phot_g_mean_mag"], part["bp_rp"]
    i, f = _cell(g, model.correlation_g)
    j = _nearby(rng, color, model.correlation_color)
    outside = np.stack([g, color], axis=1) @ model.hull[:, :2].T + model.hull[:, 2] > 0
    part[EXTRAPOLATED] = np.any(outside, axis=1)
    width = len(model.correlation_color)
    return i * width + j, (i + 1) * width + j, 1 - f


def _noise(model: _Population, rng: np.random.Generator, which: np.ndarray) -> np.ndarray:
    """Noise (n, n_basis_total) of unit variance with the correlations of these matrices of the library (n,)."""
    z = rng.standard_normal((len(which), model.release.n_basis_total), np.float32)
    out = np.empty_like(z)
    start = 0
    for j, rows in _groups(which):
        # Any rows of z will do: those that lie together spare a gather.
        part = z[start : start + len(rows)]
        for k, columns in enumerate(model.release.slices):
            out[rows, columns] = _product(part[:, columns], model.root[k][j])
        start += len(rows)
    return out


def _groups(label: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each label that occurs, and the rows that bear it."""
    order = np.argsort(label, kind="stable")
    found, start = np.unique(label[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, start[1:]), strict=True))


def _positions(rng: np.random.Generator, level: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nested HEALPix pixel (n,), ra and dec (n,) [deg] within it; three times denser at the galactic plane than poles.

    Within a face with coordinates x, y in 0..1 and corner (row, column): t = row - x - y, then z and phi (Gorski et al.
    2005, ApJ 622, 759).
    """
    face = rng.integers(0, 12, (2, BLOCK))
    x, y = rng.random((2, 2, BLOCK))
    t = face // 4 + 2 - x - y
    ring = np.minimum(np.minimum(t, 4 - t), 1)
    polar = 1 - ring**2 / 3
    z = np.where(t < 1, polar, np.where(t > 3, -polar, (2 - t) * 2 / 3))
    column = 2 * (face % 4) + np.where(face // 4 == 1, 0, 1)
    with np.errstate(invalid="ignore"):
        phi = 0.25 * np.pi * (column + np.where(ring > 0, (x - y) / ring, 0))
    ra, dec = np.degrees(phi) % 360, np.degrees(np.arcsin(z))
    # The north galactic pole, ICRS; of two places half of the sources take the one nearer the plane.
    pole_ra, pole_dec = np.radians([192.85948, 27.12825])
    height = np.abs(np.sin(pole_dec) * z + np.cos(pole_dec) * np.sqrt(1 - z**2) * np.cos(phi - pole_ra))
    nearer = (height[1] < height[0]) & (rng.random(BLOCK) < 0.5)
    pick = lambda a: np.where(nearer, a[1], a[0])  # noqa: E731
    side = 2**level
    ix, iy = (np.minimum((pick(a) * side).astype(np.int64), side - 1) for a in (x, y))
    pixel = pick(face).astype(np.int64) << (2 * level)
    for bit in range(level):
        pixel |= (ix >> bit & 1) << (2 * bit) | (iy >> bit & 1) << (2 * bit + 1)
    return pixel, pick(ra), pick(dec)
