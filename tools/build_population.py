"""Learn the population model of the simulator from real XP sources: `xpjax/data/population_dr3.h5`, and a figure.

    python tools/build_population.py --data ../shared/data [--no-figure]

Only smooth curves, covariances, quantiles and regressions are stored, no source. In order: errors as functions of the
magnitude in each XP and color; the mean spectrum as a function of BP-RP; the scatter about it, less what the errors
explain, at nodes in BP-RP; the joint density of G and BP-RP; correlation matrices at nodes in G and BP-RP.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.interpolate import BSpline
from scipy.spatial import ConvexHull

import xpjax

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "xpjax" / "data" / "population_dr3.h5"
FIGURE = ROOT / "benchmarks" / "results" / "population.png"
G_RANGE, COLOR_RANGE = (4.0, 17.65), (-0.6, 4.0)
XP, RELEASE = xpjax.Release("Gaia DR3", (55, 55)).xp, xpjax.Release("Gaia DR3", (55, 55))
COLOR_GRID = np.linspace(*COLOR_RANGE, 185)
QUANTILES = np.array([0.0, 0.02, 0.05, *np.arange(0.1, 0.95, 0.05), 0.95, 0.98, 1.0])
COLOR_NODES = np.array([-0.55, -0.45, -0.35, -0.2, 0.0, 0.2, 0.45, 0.65, 0.8, 0.95, 1.15, 1.4, 1.7, 2.05, 2.4, 2.9])
N_COMPONENT, N_SKEW = 14, 4
CORRELATION_G = np.array([8.0, 12.0, 15.0, 17.65])
CORRELATION_COLOR = np.array([-0.45, 0.05, 0.6, 1.1, 2.0, 3.4])
POGSON = 2.5 / np.log(10)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Real sources: value and error (n, 110), error NaN where unknown; correlations (n, 2970) or None; G, BP, RP."""

    value: np.ndarray
    error: np.ndarray
    correlation: np.ndarray | None
    n_relevant: np.ndarray
    magnitude: np.ndarray

    @property
    def g(self) -> np.ndarray:
        """Synthetic G (n,)."""
        return self.magnitude[:, 0]

    @property
    def color(self) -> np.ndarray:
        """Synthetic BP-RP (n,)."""
        return self.magnitude[:, 1] - self.magnitude[:, 2]


# --- real sources -----------------------------------------------------------------------------------------------------


def vectors(column: Any) -> np.ndarray:
    """A column of vectors, or of their text `(a, b, ...)`, as (n, m) float64."""
    cells = [
        np.array(x.strip('()[]"').split(","), float) if isinstance(x, str) else np.asarray(x, float) for x in column
    ]
    return np.array(cells)


def zero_units(system: Any) -> np.ndarray:
    """Projection (110, n_band) of a system, scaled so that magnitude zero is a flux of one."""
    return np.asarray(system.projection) * 10 ** (-0.4 * np.asarray(system.scaled_zero_point))


def magnitudes(value: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Magnitudes (n, n_band), NaN where the flux is not positive."""
    flux = value @ projection
    return -2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def sample(table: Any, projection: np.ndarray, kinds: tuple[str, ...]) -> Sample:
    """The usable sources of a table: both XP finite, G within the range of the model."""
    join = {k: np.concatenate([vectors(table[f"{xp}_{k}"]) for xp in XP], axis=1) for k in kinds}
    value = join["coefficients"]
    error = join.get("coefficient_errors", np.full_like(value, np.nan))
    n = len(value)
    relevant = (
        np.stack([np.asarray(table[f"{xp}_n_relevant_bases"], int) for xp in XP], axis=1)
        if "coefficient_errors" in join
        else np.zeros((n, 2), int)
    )
    magnitude = magnitudes(value, projection)
    good = np.all(np.isfinite(value), axis=1) & np.all(np.isfinite(magnitude), axis=1) & (magnitude[:, 0] < 17.8)
    correlation = join["coefficient_correlations"][good] if "coefficient_correlations" in join else None
    return Sample(value[good], error[good], correlation, relevant[good], magnitude[good])


def load(data: Path, projection: np.ndarray) -> tuple[Sample, Sample, Sample]:
    """The random sample, the blue one (no errors), and the few with correlations."""
    import pandas as pd
    from astropy.table import Table

    full = ("coefficients", "coefficient_errors", "coefficient_correlations")
    random = sample(Table.read(data / "xp/xp_random_1200.fits"), projection, full[:2])
    blue = sample(Table.read(data / "xp/xp_blue_1800.fits"), projection, full[:1])
    frames = [pd.read_parquet(data / "xp/xp_bright_corr_20.parquet")]
    frames += [
        pd.read_csv(data / "xp/formats" / name)
        for name in ("XP_CONTINUOUS_RAW.csv", "XP_CONTINUOUS_RAW_colour_eq_dr3int6.csv")
    ]
    with zipfile.ZipFile(next((data / "golden").glob("*_csv.zip"))) as archive:
        name = next(n for n in archive.namelist() if "XP_CONTINUOUS" in n)
        frames.append(pd.read_csv(io.BytesIO(archive.read(name))))
    return random, blue, sample(pd.concat(frames, ignore_index=True), projection, full)


def joined(*samples: Sample) -> Sample:
    """Several samples as one, without correlations."""
    return Sample(
        *(np.concatenate([getattr(s, k) for s in samples]) for k in ("value", "error")),
        None,
        *(np.concatenate([getattr(s, k) for s in samples]) for k in ("n_relevant", "magnitude")),
    )


# --- smooth curves ----------------------------------------------------------------------------------------------------


def spline_basis(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Cubic B-splines (n, n_knot + 2) on equally spaced knots, continued beyond them (P-splines: no repeated ends)."""
    step = knots[1] - knots[0]
    t = np.r_[knots[0] - step * np.arange(3, 0, -1), knots, knots[-1] + step * np.arange(1, 4)]
    return BSpline.design_matrix(np.clip(x, knots[0], knots[-1] - 1e-9), t, 3).toarray()


def penalized(basis: np.ndarray, y: np.ndarray, weight: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a P-spline with second differences penalized, the penalty by generalized cross-validation."""
    n, m = basis.shape
    d2 = np.diff(np.eye(m), 2, axis=0)
    gram, right = (basis * weight[:, None]).T @ basis, (basis * weight[:, None]).T @ y
    best: tuple[float, np.ndarray] = (np.inf, np.zeros(m))
    for strength in grid * np.trace(gram) / m:
        inverse = np.linalg.inv(gram + strength * d2.T @ d2 + 1e-9 * np.trace(gram) / m * np.eye(m))
        solution = inverse @ right
        freedom = np.sum(inverse * gram)
        # A freedom counted 1.4 times guards against the undersmoothing that the plain criterion is known for.
        score = np.sum(weight * (y - basis @ solution) ** 2) / (1 - 1.4 * freedom / n) ** 2
        if score < best[0]:
            best = (score, solution)
    return best[1], basis @ best[1]


def quantiles(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted quantiles of x at QUANTILES; both ends extended from the inner ones: no source shows."""
    order = np.argsort(x)
    cumulative = np.cumsum(weight[order]) - 0.5 * weight[order]
    out = np.interp(QUANTILES[1:-1], cumulative / weight.sum(), x[order])
    low, high = 1.6 * (out[0] - out[1]), 1.6 * (out[-1] - out[-2])
    return np.r_[out[0] + low, out, out[-1] + high]


# --- errors -----------------------------------------------------------------------------------------------------------


class ErrorModel:
    """ln error = curve_k(magnitude in the XP) + a_k C + b_k C^2 + factor + components + scatter, C = BP-RP - 1."""

    RANGE = (6.5, 19.5)

    def __init__(self, s: Sample) -> None:
        self.grid = np.linspace(*self.RANGE, 53)
        knots = np.linspace(*self.RANGE, 14)
        curves, slopes, factors, self.component, self.white = [], [], [], [], []
        for k, rows in enumerate(RELEASE.slices):
            y = np.log(s.error[:, rows]) - self.bright(s.magnitude[:, 1 + k])[:, None]
            basis = spline_basis(s.magnitude[:, 1 + k], knots)
            design = np.c_[basis, self.color_terms(s.color)]
            d2 = np.zeros((len(knots), design.shape[1]))
            d2[:, : basis.shape[1]] = np.diff(np.eye(basis.shape[1]), 2, axis=0)
            weight = np.ones(len(y))
            for _ in range(8):
                gram = (design * weight[:, None]).T @ design + 2.0 * d2.T @ d2
                solution = np.linalg.solve(gram, (design * weight[:, None]).T @ y)
                residual = y - design @ solution
                common = np.median(residual, axis=1)
                weight = 1 / (1 + (common / 0.12) ** 2)
            curves.append(spline_basis(self.grid, knots) @ solution[:-2])
            slopes.append(solution[-2:])
            factors.append(common)
            rest = residual - common[:, None]
            rest = rest[np.abs(rest).max(axis=1) < 0.5]
            u, v = np.linalg.eigh(np.cov(rest.T))
            self.component.append((v[:, -3:] * np.sqrt(u[-3:])).T)
            self.white.append(np.sqrt(np.median(np.diag(np.cov((rest - rest @ v[:, -3:] @ v[:, -3:].T).T)))))
        self.curve, self.slope = np.concatenate(curves, axis=1), np.concatenate(slopes, axis=1)
        equal = np.ones(len(s.g))
        self.factor = np.stack([quantiles(f, equal) for f in factors])
        ranks = np.argsort(np.argsort(factors, axis=1), axis=1)
        # The correlation of normal scores that gives this rank correlation.
        self.factor_correlation = 2 * np.sin(np.pi / 6 * np.corrcoef(ranks)[0, 1])

    def bright(self, magnitude: np.ndarray) -> np.ndarray:
        """Brighter than any source with an error, errors stay proportional to flux: a systematic floor."""
        return np.maximum(self.RANGE[0] - magnitude, 0) / POGSON

    @staticmethod
    def color_terms(color: np.ndarray) -> np.ndarray:
        """C and C^2 (n, 2), constant beyond the colors of real sources."""
        c = np.clip(color, -0.4, 3.4) - 1
        return np.stack([c, c**2], axis=1)

    def __call__(self, magnitude: np.ndarray) -> np.ndarray:
        """Typical errors (n, 110) of sources with these G, BP, RP."""
        parts = []
        for k, rows in enumerate(RELEASE.slices):
            m = magnitude[:, 1 + k]
            curve = np.stack([np.interp(m, self.grid, c) for c in self.curve[:, rows].T], axis=1)
            terms = self.color_terms(magnitude[:, 1] - magnitude[:, 2]) @ self.slope[:, rows]
            parts.append(curve + terms + self.bright(m)[:, None])
        return np.exp(np.concatenate(parts, axis=1))


# --- correlations -----------------------------------------------------------------------------------------------------


class CorrelationModel:
    """ln R = ln R_fit(spectrum, G) + A + B clip(BP-RP, 0, 2) + C clip((G - 8)/8, 0, 1), scaled to a unit diagonal.

    R_fit is what weighted least squares gives for samples with photon noise and a constant background, which grows
    relative to the source beyond G = 15; A, B, C (matrices) are a regression on the sources with correlations.
    Exponentials of symmetric matrices are positive definite, so every R is.
    """

    def __init__(self, s: Sample) -> None:
        self.pseudo = np.linspace(0, 60, 241)
        self.basis = [xpjax.load_instrument().internal["hermite"][xp](self.pseudo) for xp in XP]
        # Twenty of the sources are bright and alike: a third of the weight each.
        weight = np.where(s.g < 9, 0.3, 1.0)
        x = self.features(s.g, s.color)
        gram = np.linalg.solve((x * weight[:, None]).T @ x, (x * weight[:, None]).T)
        self.regression = []
        for k in range(2):
            logs = np.array(
                [
                    self.log(self.unpack(r, k)) - self.log(self.fit(c, g, k))
                    for r, c, g in zip(s.correlation[:, RELEASE.pair_slices[k]], s.value, s.g, strict=True)
                ]
            )
            self.regression.append(np.tensordot(gram, logs, 1))

    @staticmethod
    def features(g: np.ndarray, color: np.ndarray) -> np.ndarray:
        """What A, B and C are multiplied by (n, 3)."""
        return np.stack([np.ones_like(g), np.clip(color, 0, 2), np.clip((g - 8) / 8, 0, 1)], axis=1)

    @staticmethod
    def unpack(packed: np.ndarray, k: int) -> np.ndarray:
        """R (n_basis, n_basis) of a packed lower triangle."""
        n = RELEASE.n_basis[k]
        out = np.eye(n)
        rows, columns = np.tril_indices(n, -1)
        out[rows, columns] = out[columns, rows] = packed
        return out

    @staticmethod
    def log(matrix: np.ndarray) -> np.ndarray:
        """The logarithm of a symmetric positive definite matrix."""
        u, v = np.linalg.eigh(matrix)
        return (v * np.log(u)) @ v.T

    def fit(self, value: np.ndarray, g: float, k: int) -> np.ndarray:
        """Correlations of coefficients fitted with weights 1/(flux + background)."""
        flux = np.maximum(value[RELEASE.slices[k]] @ self.basis[k], 0)
        background = np.exp((-2.0, -0.8)[k] + 0.9 * max(g - 15, 0))
        cov = np.linalg.inv((self.basis[k] / (flux / flux.max() + background)) @ self.basis[k].T)
        return cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))

    def __call__(self, value: np.ndarray, g: float, color: float, k: int) -> np.ndarray:
        """R (n_basis, n_basis) of one XP of a source with these coefficients, G and BP-RP."""
        x = self.features(np.array([g]), np.array([color]))[0]
        u, v = np.linalg.eigh(self.log(self.fit(value, g, k)) + np.tensordot(x, self.regression[k], 1))
        cov = (v * np.exp(u)) @ v.T
        return cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))


# --- spectra ----------------------------------------------------------------------------------------------------------


def mean_spectrum(s: Sample, shape: np.ndarray, noise: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Mean coefficients (185, 110) at COLOR_GRID for G = 15, with G and BP-RP exactly those asked for.

    shape, noise (n, 110): coefficients and errors scaled to G = 15.
    """
    knots = np.arange(-0.7, 4.11, 0.1)
    basis, out = spline_basis(s.color, knots), spline_basis(COLOR_GRID, knots)
    mean = np.empty((len(COLOR_GRID), shape.shape[1]))
    grid = np.logspace(-5, 2, 15)
    for k, y in enumerate(shape.T):
        weight = 1 / (noise[:, k] ** 2 + np.var(noise[:, k]))
        weight /= weight.max()
        for _ in range(6):
            solution, fitted = penalized(basis, y, weight, grid)
            residual = y - fitted
            spread = 1.48 * np.median(np.abs(residual[noise[:, k] < np.median(noise[:, k])]))
            variance = noise[:, k] ** 2 + spread**2
            weight = 1 / (variance + residual**2 / 6)  # Student's t: outliers count little
            weight *= 1 / np.median(weight)
        # Where the curve differs from zero by less than its sampling error over many sources, it is zero.
        near = np.exp(-0.5 * ((COLOR_GRID[:, None] - s.color) / 0.1) ** 2) @ (1 / variance)
        level = (out @ solution) ** 2 * np.maximum(near, 20 / np.median(variance))
        mean[:, k] = out @ solution * np.clip(1 - 6 / np.maximum(level, 1e-9), 0, 1)
    return rescale(mean, projection)


def adjust_blue(s: Sample, mean: np.ndarray, shape: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The mean spectra changed least, in units of errors, to give the mean fluxes of real sources in blue bands.

    In red stars these are small sums of large terms: curves that fit each coefficient well can miss them by half.
    """
    bands = np.concatenate(
        [zero_units(xpjax.load_system(f"JPLUS:{name}")) for name in ("uJAVA", "J0378", "J0395", "J0410", "J0430")],
        axis=1,
    )
    bands *= 10 ** (0.4 * 15)
    knots = np.arange(-0.7, 4.11, 0.2)
    target = np.empty((len(COLOR_GRID), bands.shape[1]))
    for k, p in enumerate(bands.T):
        flatten = 10 ** (0.4 * 1.5 * s.color)
        y, variance = shape @ p * flatten, (noise**2 @ p**2) * flatten**2
        basis, weight = spline_basis(s.color, knots), 1 / (variance + 0.1**2)
        for _ in range(6):
            solution, fitted = penalized(basis, y, weight, np.logspace(-4, 2, 13))
            # Fluxes, not magnitudes, are averaged, since noise is as large as they are; outliers count little.
            residual = (y - fitted) ** 2 / (variance + (0.2 * fitted) ** 2 + 0.01**2)
            weight = 1 / (variance + (0.2 * fitted) ** 2 + 0.01**2) / (1 + residual / 9)
        curve = np.maximum(spline_basis(COLOR_GRID, knots) @ solution, 0.02)
        target[:, k] = curve / 10 ** (0.4 * 1.5 * COLOR_GRID)
    metric = np.median(noise[np.abs(s.g - 15) < 1], axis=0) ** 2
    # Early coefficients are well known, and the latest ones shall stay zero.
    order = np.concatenate([np.arange(n) for n in RELEASE.n_basis])
    metric *= np.exp(-((order / 20.0) ** 2))
    gain = np.linalg.solve(bands.T @ (metric[:, None] * bands), bands.T * metric)
    # Hot stars need none of it, and are of several kinds, of which a curve knows nothing.
    ramp = np.clip((COLOR_GRID - 0.6) / 0.3, 0, 1)[:, None]
    return mean + ramp * (target - mean @ bands) @ gain


def rescale(mean: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """BP and RP coefficients each times a factor near one, so that G is 15 and BP-RP that of COLOR_GRID."""
    target = 10 ** (-0.4 * COLOR_GRID)  # BP over RP flux, both in units of magnitude zero
    bp, rp = RELEASE.slices
    out = mean.copy()
    for row, ratio in zip(out, target, strict=True):
        p = projection[:, 1] - ratio * projection[:, 2]
        system = [[row[bp] @ projection[bp, 0], row[rp] @ projection[rp, 0]], [row[bp] @ p[bp], row[rp] @ p[rp]]]
        a, b = np.linalg.solve(system, [10 ** (-0.4 * 15.0), 0])
        row[bp] *= a
        row[rp] *= b
    return out


def scatter(
    s: Sample, shape: np.ndarray, noise: np.ndarray, mean: np.ndarray, projection: np.ndarray, library: Any
) -> Any:
    """Factors (n_node, n_component, 110) of the scatter about the mean at COLOR_NODES, and quantiles of the first few.

    The covariance that errors explain is subtracted, as far as it survives the scaling to one G and BP-RP.
    """
    interpolate = lambda table, x: np.stack([np.interp(x, COLOR_GRID, t) for t in table.T], axis=-1)  # noqa: E731
    slope = np.gradient(mean, COLOR_GRID, axis=0)
    metric = np.median(noise[np.abs(s.g - 15) < 1], axis=0)
    residual = (shape - interpolate(mean, s.color)) / metric
    level = np.mean((noise / metric) ** 2, axis=1)
    factors, tables, counts = [], [], []
    g_vector = projection[:, 0] * 10 ** (0.4 * 15)
    for node in COLOR_NODES:
        width = 0.6 * np.min(np.abs(np.diff(COLOR_NODES))[np.argsort(np.abs(COLOR_NODES[1:] - node))[:2]])
        while True:
            kernel = np.exp(-0.5 * ((s.color - node) / width) ** 2) / (1 + level / 0.3)
            use = (kernel > 0.01) & (level < 3)
            count = kernel[use].sum() ** 2 / (kernel[use] ** 2).sum()
            if count > 45:
                break
            width *= 1.15
        distance = np.sqrt(np.mean(residual**2, axis=1) / (1 + level))
        use &= distance < 4 * np.median(distance[use])  # galaxies, blends and the like
        here, flux = interpolate(mean, node), interpolate(mean, node) @ projection
        color_vector = -POGSON * (projection[:, 1] / flux[1] - projection[:, 2] / flux[2])
        jacobian = np.eye(len(here)) - np.outer(interpolate(slope, node), color_vector) - np.outer(here, g_vector)
        total, explained = np.zeros((2, len(here), len(here)))
        w = kernel[use] / kernel[use].sum()
        r = residual[use]
        total = (r * w[:, None]).T @ r
        for wi, e, g, c in zip(w, noise[use], s.g[use], s.color[use], strict=True):
            part = jacobian * e
            explained += wi * part @ library(g, c) @ part.T / np.outer(metric, metric)
        # A coefficient whose variance errors explain, within twice its sampling error, does not scatter: the noise of
        # an estimate from few sources must not become structure in bright ones.
        excess, doubt = np.diag(total - explained), np.diag(total) * np.sqrt(2 / count)
        trust = np.sqrt(np.clip(1 - (2 * doubt / np.maximum(excess, 1e-12)) ** 2, 0, 1))
        u, v = np.linalg.eigh((total - explained) * np.outer(trust, trust))
        top = np.argsort(u)[::-1][:N_COMPONENT]
        amplitude = np.sqrt(np.maximum(u[top], 0))
        vectors = v[:, top].T * metric
        # Nothing that changes G or BP-RP at the node: both are drawn, not scattered. What does is undone by a little
        # more or less of the mean BP and RP spectra, which leaves coefficients that do not scatter alone.
        q = np.stack([g_vector, color_vector * np.abs(g_vector).max()], axis=1)
        is_bp = np.arange(len(here)) < RELEASE.n_basis[0]
        parts = here * np.stack([is_bp, ~is_bp])
        vectors -= vectors @ q @ np.linalg.inv(parts @ q) @ parts
        factors.append(vectors * amplitude[:, None])
        score = r @ v[:, top[:N_SKEW]]
        table = np.stack([quantiles(x, w) for x in score.T])
        tables.append(standard(table))
        counts.append(count)
    return np.array(factors), np.array(tables), np.array(counts)


def standard(table: np.ndarray) -> np.ndarray:
    """Quantile tables shifted and scaled to mean 0 and variance 1 under linear interpolation."""
    p = (np.arange(4000) + 0.5) / 4000
    x = np.stack([np.interp(p, QUANTILES, t) for t in table])
    return (table - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)


# --- numbers on the sky -----------------------------------------------------------------------------------------------


def density(random: Sample, blue: Sample, blue_share: float, flat_share: float) -> Any:
    """Cumulative density of G on a grid, and of BP-RP on COLOR_GRID at nodes in G."""
    bins = np.arange(11, 17.51, 0.5)
    count = np.histogram(random.g, bins)[0]
    slope = np.polyfit(bins[:-1] + 0.25, np.log10(count), 1, w=np.sqrt(count))[0]
    grid = np.linspace(*G_RANGE, 274)
    # Steep counts would leave the bright end empty: one in a hundred is spread evenly over G.
    pdf = 10 ** (slope * (grid - grid[-1])) * slope * np.log(10) * 0.99 + 0.01 / (grid[-1] - grid[0])
    nodes = np.array([9.0, 11.0, 12.5, 14.0, 15.0, 16.0, 17.0, 17.65])
    tables = []
    centers = COLOR_GRID

    def kernel_density(color: np.ndarray, weight: np.ndarray, width: float) -> np.ndarray:
        out = np.exp(-0.5 * ((centers[:, None] - color) / width) ** 2) @ weight
        return out / out.sum()

    for node in nodes:
        width = 0.35
        while (w := np.exp(-0.5 * ((random.g - node) / width) ** 2)).sum() ** 2 / (w**2).sum() < 60:
            width *= 1.2
        main = kernel_density(random.color, w, 0.045 if node > 13 else 0.07)
        hot = kernel_density(blue.color, np.ones(len(blue.color)), 0.04)
        flat = np.ones(len(centers)) / len(centers)
        table = (1 - blue_share - flat_share) * main + blue_share * hot + flat_share * flat
        tables.append(table)
    cumulative = [np.r_[0, np.cumsum(0.5 * (t[1:] + t[:-1]))] for t in [pdf, *tables]]
    cumulative = [c / c[-1] for c in cumulative]
    return slope, grid, cumulative[0], nodes, np.array(cumulative[1:])


# --- build ------------------------------------------------------------------------------------------------------------


def build(data: Path) -> tuple[Sample, Sample, Sample]:
    """Fit everything and write OUTPUT; the real samples, for the figure."""
    projection = zero_units(xpjax.load_system("Gaia_DR3_Vega"))
    random, blue, few = load(data, projection)
    errors = ErrorModel(joined(random, few))
    correlations = CorrelationModel(few)
    everything = joined(random, blue, few)
    error = np.where(np.isfinite(everything.error), everything.error, errors(everything.magnitude))
    scale = 10 ** (0.4 * (everything.g - 15))[:, None]
    shape, noise = everything.value * scale, error * scale
    mean = mean_spectrum(everything, shape, noise, projection)
    for _ in range(3):
        mean = rescale(adjust_blue(everything, mean, shape, noise), projection)

    place = [np.argmin(np.abs(COLOR_GRID - c)) for c in CORRELATION_COLOR]
    library = np.array(
        [[[correlations(mean[i], g, c, k) for k in range(2)] for i, c in zip(place, CORRELATION_COLOR, strict=True)]
         for g in CORRELATION_G]
    )  # fmt: skip

    def block(g: float, color: float) -> np.ndarray:
        i, j = np.argmin(np.abs(CORRELATION_G - g)), np.argmin(np.abs(CORRELATION_COLOR - color))
        out = np.zeros((RELEASE.n_basis_total,) * 2)
        for k, rows in enumerate(RELEASE.slices):
            out[rows, rows] = library[i, j, k]
        return out

    factor, skew, count = scatter(everything, shape, noise, mean, projection, block)
    slope, g_grid, g_cdf, g_nodes, color_cdf = density(random, blue, 0.02, 0.01)
    hull = ConvexHull(np.stack([few.g, few.color], axis=1)).equations
    misfit = [
        np.sqrt(
            np.mean(
                [
                    (correlations(c, g, x, k)[np.tril_indices(RELEASE.n_basis[k], -1)] - r) ** 2
                    for c, g, x, r in zip(
                        few.value, few.g, few.color, few.correlation[:, RELEASE.pair_slices[k]], strict=True
                    )
                ]
            )
        )
        for k in range(2)
    ]
    packed = np.concatenate(
        [library[:, :, k][..., *np.tril_indices(RELEASE.n_basis[k], -1)] for k in range(2)], axis=-1
    ).reshape(len(CORRELATION_G) * len(CORRELATION_COLOR), -1)
    OUTPUT.parent.mkdir(exist_ok=True)
    with h5py.File(OUTPUT, "w") as file:
        file.attrs.update(
            title="Population model of Gaia DR3 XP sources for xpjax.xp.simulate",
            format_version=1,
            release_name="Gaia DR3",
            release_xp=list(XP),
            release_n_basis=list(RELEASE.n_basis),
            made_by="tools/build_population.py; fitted curves, covariances, quantiles and regressions, no source",
            made_from=(
                f"{len(random.g)} sources of low source_id, one high-latitude field (errors; main locus and counts), "
                f"{len(blue.g)} blue sources (coefficients; BP-RP < 0.5), {len(few.g)} with correlations; "
                "Gaia DR3, ESA/Gaia/DPAC"
            ),
            observed=(
                f"BP-RP {everything.color.min():.2f}..{np.sort(everything.color)[-2]:.2f} (one source at "
                f"{everything.color.max():.2f}), G of errors {few.g.min():.1f}..17.8, correlations within the hull"
            ),
            invented="2% of sources follow the blue sample's colors, 1% are spread evenly over BP-RP, 1% over G",
            counts_slope=slope,
            correlation_rms_misfit=misfit,
            scatter_effective_sources=count,
            g_range=G_RANGE,
            color_range=COLOR_RANGE,
            error_factor_correlation=errors.factor_correlation,
            error_white=errors.white,
        )
        for name, array in {
            "projection": projection,
            "count/g": g_grid, "count/cumulative": g_cdf,
            "color/g": g_nodes, "color/color": COLOR_GRID, "color/cumulative": color_cdf,
            "mean/color": COLOR_GRID, "mean/value": mean,
            "scatter/color": COLOR_NODES, "scatter/factor": factor, "scatter/skew": skew,
            "quantile": QUANTILES,
            "error/magnitude": errors.grid, "error/curve": errors.curve, "error/slope": errors.slope,
            "error/factor": errors.factor, "error/component": np.concatenate(errors.component, axis=1),
            "correlation/g": CORRELATION_G, "correlation/color": CORRELATION_COLOR,
            "correlation/packed": packed, "correlation/hull": hull,
        }.items():  # fmt: skip
            big = np.size(array) > 1000
            wide = name in ("projection", "quantile") or "cumulative" in name
            kind = np.float64 if wide else np.float32
            file.create_dataset(
                name, data=np.asarray(array, kind), **({"compression": 9, "shuffle": True} if big else {})
            )
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size / 1e3:.0f} kB; counts slope {slope:.3f}; correlation misfit {misfit}")
    print("effective sources behind each scatter node", np.round(count).astype(int))
    print("factor correlation", errors.factor_correlation, "white", errors.white)
    return random, blue, few


# --- figure -----------------------------------------------------------------------------------------------------------

REAL, BLUE, MOCK = "#0b0b0b", "#2a78d6", "#eb6834"


def figure(random: Sample, blue: Sample, few: Sample, path: Path) -> None:
    """Real and simulated sources side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from xpjax.xp import simulate

    mock = simulate.simulate_sources(60_000, seed=1)
    value, error = (np.asarray(x, float) for x in (mock.coefficients.value, mock.coefficients.error))
    gaia, sdss = (zero_units(xpjax.load_system(name)) for name in ("Gaia_DR3_Vega", "SDSS"))
    m = Sample(value, error, None, np.asarray(mock.coefficients.n_relevant), magnitudes(value, gaia))
    plt.rcParams.update({
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#52514e",
        "axes.labelcolor": "#52514e", "xtick.color": "#52514e", "ytick.color": "#52514e", "axes.titlesize": 9.5,
        "axes.titlelocation": "left", "legend.frameon": False, "legend.fontsize": 8,
    })  # fmt: skip
    fig, axes = plt.subplots(3, 4, figsize=(18, 12), layout="constrained")
    ax = axes.ravel()

    bins = np.arange(-0.7, 4.1, 0.05)
    ax[0].hist(m.color, bins, weights=np.full(len(m.g), 1 / len(m.g)), color=MOCK, alpha=0.55, label="simulated")
    for s, c, label, share in (
        (random, REAL, "real: one high-latitude field", 0.97),
        (blue, BLUE, "real: blue sample, as 2 %", 0.02),
    ):
        ax[0].hist(s.color, bins, weights=np.full(len(s.g), share / len(s.g)), histtype="step", color=c, label=label)
    ax[0].set(yscale="log", ylim=(1e-4, 0.2), xlabel="BP-RP [mag]", ylabel="fraction per 0.05 mag", title="Colors")
    ax[0].legend()

    bins = np.arange(4, 18, 0.5)
    ax[1].hist(m.g, bins, weights=np.full(len(m.g), 1 / len(m.g)), color=MOCK, alpha=0.55, label="simulated")
    ax[1].hist(
        random.g, bins, weights=np.full(len(random.g), 1 / len(random.g)), histtype="step", color=REAL, label="real"
    )
    ax[1].set(
        yscale="log",
        xlabel="G [mag]",
        ylabel="fraction per 0.5 mag",
        title="Counts: log-linear, 1 % spread evenly over G",
    )
    ax[1].legend(loc="upper left")

    ax[2].plot(m.color, m.g, ",", color=MOCK, alpha=0.5)
    ax[2].plot(random.color, random.g, ".", color=REAL, ms=2.5)
    ax[2].plot(blue.color, blue.g, ".", color=BLUE, ms=1.5)
    hull = ConvexHull(np.stack([few.color, few.g], axis=1))
    ax[2].fill(few.color[hull.vertices], few.g[hull.vertices], fc="none", ec="#199e70", lw=1.5)
    ax[2].plot(few.color, few.g, "o", mfc="none", color="#199e70", ms=5, label="real, with correlations")
    ax[2].set(
        ylim=(18.2, 3.5),
        xlim=(-0.8, 4.2),
        xlabel="BP-RP [mag]",
        ylabel="G [mag]",
        title="Outside the green hull correlations are extrapolated",
    )
    ax[2].legend(loc="upper right")

    for a, (one, two, three, four), limits, title in (
        (ax[3], (1, 2, 2, 3), ((-0.8, 1.9), (-0.7, 2.6)), "SDSS g-r, r-i"),
        (ax[4], (1, 3, 0, 1), ((-1.3, 3.5), (-0.8, 4.2)), "SDSS u-g against g-i (u is noise in faint red stars)"),
    ):
        for s, c, size, alpha in ((m, MOCK, 1, 0.35), (random, REAL, 2.5, 1), (blue, BLUE, 1.5, 1)):
            x = magnitudes(s.value, sdss)
            a.plot(
                x[:, one] - x[:, two], x[:, three] - x[:, four], "." if size > 1 else ",", color=c, ms=size, alpha=alpha
            )
        names = "ugriz"
        a.set(xlim=limits[0], ylim=limits[1], title=title)
        a.set_xlabel(f"{names[one]}-{names[two]} [mag]")
        a.set_ylabel(f"{names[three]}-{names[four]} [mag]")

    n = RELEASE.n_basis[0]
    for a, k in zip(ax[5:8], (1, 3, n + 2), strict=True):
        for s, c, size in ((m, MOCK, 1), (random, REAL, 2.5), (blue, BLUE, 1.5)):
            bright = s.g < 16.5
            scaled = s.value[bright, k] * 10 ** (0.4 * (s.g[bright] - 15))
            a.plot(s.color[bright], scaled, "." if size > 1 else ",", color=c, ms=size)
            if s is random:
                low, high = np.percentile(scaled, [0.5, 99.5])
        a.plot(few.color, few.value[:, k] * 10 ** (0.4 * (few.g - 15)), "o", mfc="none", color="#199e70", ms=4)
        edge = np.percentile(np.concatenate([blue.value[:, k] * 10 ** (0.4 * (blue.g - 15))]), [0.5, 99.5])
        low, high = min(low, edge[0]), max(high, edge[1])
        a.set(xlim=(-0.7, 4.1), ylim=(low - 0.35 * (high - low), high + 0.35 * (high - low)), xlabel="BP-RP [mag]")
        name = f"BP coefficient {k}" if k < n else f"RP coefficient {k - n}"
        a.set(title=f"{name}, scaled to G = 15 (G < 16.5)")

    real = joined(random, few)
    for k, c, label in ((0, "#eb6834", "BP 0"), (30, "#2a78d6", "BP 30"), (n + 10, "#199e70", "RP 10")):
        shift = {0: 1.5, 30: 0.75, n + 10: 0.0}[k]
        ax[8].plot(m.g[:15000], np.log10(m.error[:15000, k]) + shift, ",", color=c, alpha=0.6)
        ax[8].plot(real.g, np.log10(real.error[:, k]) + shift, ".", color=REAL, ms=1.5)
        ax[8].plot([], [], "o", color=c, label=f"{label}, shifted by {shift:g} dex" if shift else label)
    ax[8].set(xlabel="G [mag]", ylabel="log10 error", title="Errors: real (black) and simulated")
    ax[8].legend()

    for a, k, xp in ((ax[9], 0, "BP"), (ax[10], 1, "RP")):
        centers = np.arange(9, 17.8, 0.5)
        for s, c, label in ((m, MOCK, "simulated"), (real, REAL, "real")):
            bands = np.array(
                [
                    np.percentile(s.n_relevant[(np.abs(s.g - g) < 0.5) & (s.color > 0.5), k], [16, 50, 84])
                    for g in centers
                ]
            )
            a.fill_between(centers, bands[:, 0], bands[:, 2], color=c, alpha=0.2, lw=0)
            a.plot(centers, bands[:, 1], color=c, label=f"{label}: median, 16..84 %")
        a.set(xlabel="G [mag]", ylabel="relevant bases", title=f"Relevant {xp} bases, BP-RP > 0.5")
        a.legend()

    size = RELEASE.n_basis[1]
    show = np.eye(size)
    rows, columns = np.tril_indices(size, -1)
    pick = np.argmin(np.abs(few.g - 13.9))
    near = np.argmin((m.g - few.g[pick]) ** 2 + 30 * (m.color - few.color[pick]) ** 2)
    show[rows, columns] = few.correlation[pick, RELEASE.pair_slices[1]]
    show[columns, rows] = mock.coefficients.correlation[near, RELEASE.pair_slices[1]]
    image = ax[11].imshow(show, cmap="RdBu_r", vmin=-0.4, vmax=0.4, interpolation="nearest")
    ax[11].set(
        title=f"RP correlations at G = {few.g[pick]:.1f}: real below, simulated above", xlabel="basis", ylabel="basis"
    )
    fig.colorbar(image, ax=ax[11], shrink=0.8)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--no-figure", action="store_true")
    arguments = parser.parse_args()
    samples = build(arguments.data)
    if not arguments.no_figure:
        figure(*samples, FIGURE)
