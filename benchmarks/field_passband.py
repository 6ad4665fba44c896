"""Passbands that vary over the field, and images with few calibrators: what transmission terms find of them.

Interference filters pass bluer light off axis, at lambda_0 sqrt(1 - (sin theta / n)^2): truth is made by integrating
the moved curves under each star's spectrum, row by row, without the term's own code.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import jax
import numpy as np
from scipy.interpolate import CubicSpline

from benchmarks.harness import RESULTS, Row, limits, report
from benchmarks.joint import measured, reddened, stars
from xpjax.core import engine
from xpjax.core.constants import AB_ZERO_POINT, SPEED_OF_LIGHT
from xpjax.survey.joint.parameters import Parameter
from xpjax.survey.joint.priors import StarPrior, xp_prior
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Color, Flat, Term, ZeroPoint
from xpjax.survey.joint.transmission import Transmission
from xpjax.survey.observations import Observations, make_observations
from xpjax.synthetic.atmosphere import Atmosphere
from xpjax.synthetic.chain import Curve, TransmissionChain
from xpjax.synthetic.loading import load_passbands
from xpjax.xp.instrument import load_instrument
from xpjax.xp.sources import SourceTable

SIZE = (9216.0, 9232.0)
"""Of the detector [pixel]."""
BLUESHIFT, OFFSET = 2.5, 1.0
"""Of the filters from the center to a corner, and everywhere, to the red [nm]."""
NOISE = 0.003
"""Of a measurement [mag]."""
STEP = 0.5
"""Of the integrals of the truth [nm]."""
AB = AB_ZERO_POINT + 2.5 * np.log10(1e9 * SPEED_OF_LIGHT)
"""Zero point of integrals over nanometers [mag]."""


# --- a field ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Field:
    """Exposures of a camera whose filters move to the blue off axis: rows, chain, spectra, truth."""

    observations: Observations
    chain: TransmissionChain
    seen: SourceTable
    exact: SourceTable
    zero_point: np.ndarray

    @property
    def color_range(self) -> tuple[float, float]:
        """BP-RP of all but one in a hundred of the stars."""
        low, high = np.quantile(np.asarray(self.exact.columns["bp_rp"]), [0.005, 0.995])
        return float(low), float(high)


def radius2(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance (n,) from the middle of the detector, squared, in units of half its diagonal."""
    return ((2 * x - SIZE[0]) ** 2 + (2 * y - SIZE[1]) ** 2) / (SIZE[0] ** 2 + SIZE[1] ** 2)


def true_flat(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What the detector's response does to magnitudes (n,) [mag]."""
    return 0.02 * radius2(x, y) + 0.01 * (2 * x / SIZE[0] - 1)


class Truth:
    """True magnitudes of stars in the bands of a chain without air: integrals of moved curves under their spectra."""

    def __init__(self, chain: TransmissionChain, exact: SourceTable) -> None:
        self.chain = chain
        self.grid = {}
        for band, curve in zip(chain.bands, chain.filters, strict=True):
            known = np.asarray(curve.wavelength)
            spline = CubicSpline(known, np.asarray(curve.transmission))
            grid = np.arange(max(known[0] - 8, 331.0), min(known[-1] + 8, 1049.0), STEP)
            design = load_instrument().design(grid)
            spectrum = np.asarray(exact.coefficients.value, float) @ (
                np.asarray(design.value) * np.asarray(design.scale)
            )
            self.grid[band] = known, spline, grid, spectrum

    def center(self, band: str) -> float:
        """Mean wavelength [nm] of a filter as it is given."""
        known, spline, grid, _ = self.grid[band]
        t = np.where((grid > known[0]) & (grid < known[-1]), spline(grid), 0.0)
        return float((t * grid).sum() / t.sum())

    def scale(self, band: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """By what (n,) wavelengths of a filter are multiplied at places of the detector."""
        center = self.center(band)
        sine2 = 1 - (1 - BLUESHIFT / center) ** 2  # (sin theta / n)^2 at a corner
        return np.sqrt(1 - sine2 * radius2(x, y))

    def magnitude(self, band: str, star: np.ndarray, scale: np.ndarray, offset: float) -> np.ndarray:
        """AB magnitudes (n,) of stars through filters scaled (n,) and moved by an offset [nm]."""
        known, spline, grid, spectrum = self.grid[band]
        out = np.empty(len(star))
        for first in range(0, len(star), 4096):
            rows = slice(first, first + 4096)
            own = (grid - offset) / scale[rows, None]
            t = np.where((own > known[0]) & (own < known[-1]), spline(own), 0.0)
            flux = (spectrum[star[rows]] * t * grid).sum(axis=1) / (t / grid).sum(axis=1)
            out[rows] = AB - 2.5 * np.log10(flux)
        return out


def field(
    n_exposure: int = 40,
    n_star: int = 2000,
    *,
    noise: float = NOISE,
    bands: tuple[str, ...] = ("gp", "rp"),
    seed: int = 0,
) -> Field:
    """Dithered exposures of as many stars each, in turn in every band."""
    rng = np.random.default_rng(seed)
    curves = load_passbands("PanSTARRS1")[list(bands)]
    filters = tuple(Curve(b.wavelength, b.transmission) for b in curves)
    chain = TransmissionChain("camera", bands, filters, np.arange(380.0, 1000.0, 0.5))
    reach = 0.15  # of the dither, in detectors
    exact = stars(int(n_star * (1 + 2 * reach) ** 2), seed + 1)
    place = rng.uniform(-reach, 1 + reach, (len(exact), 2))
    truth, zero_point = Truth(chain, exact), rng.normal(25, 0.1, n_exposure)
    parts: list[dict[str, Any]] = []
    for e in range(n_exposure):
        at = (place + rng.uniform(-reach, reach, 2)) * SIZE
        mine = np.flatnonzero(((at > 0) & (at < SIZE)).all(axis=1))
        parts.append(
            _exposure(truth, exact, mine, at[mine], f"e{e:03d}", bands[e % len(bands)], zero_point[e], rng, noise)
        )
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Field(make_observations(**columns, model=None), chain, measured(exact, seed + 2), exact, zero_point)


def _exposure(
    truth: Truth, exact: SourceTable, mine: np.ndarray, at: np.ndarray, exposure: str, band: str, zero_point: float,
    rng: np.random.Generator, noise: float,
) -> dict[str, Any]:  # fmt: skip
    """Columns of observations of some stars at places (n, 2) on one exposure."""
    x, y = at.T
    magnitude = truth.magnitude(band, mine, truth.scale(band, x, y), OFFSET) - zero_point - true_flat(x, y)
    error = np.full(len(mine), max(noise, 1e-3))
    return {
        "star": np.asarray(exact.source_id)[mine], "x": x, "y": y,
        "magnitude": magnitude + noise * rng.normal(size=len(mine)), "magnitude_error": error,
        "color": np.asarray(exact.columns["bp_rp"], float)[mine], "exposure": np.full(len(mine), exposure),
        "band": np.full(len(mine), band),
    }  # fmt: skip


PARAMETERS = {
    "filter_shift": Parameter("band", 5.0, field="radial", order=2, field_prior=5.0),
    "filter_scale": Parameter("band", 0.005, field="radial", order=2, field_prior=0.005),
}


def model_with(*terms: Term) -> JointModel:
    """Zero-points, a flat and more; every combination of these is settled by the stars' priors."""
    flat = Flat(form="chebyshev", order=4, per="band")
    return JointModel(
        (ZeroPoint(), flat, *terms), robust="none", error_floor=0.0, size=(0.0, SIZE[0], 0.0, SIZE[1]), color_zero=1.0
    )


def field_values(solution: JointSolution, truth: Truth, r2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the shift is off, and its errors [nm], in each band at squared radii (n_band, n)."""
    off, error = [], []
    parts = [f"transmission filter_shift{part}" for part in ("", " r2")]
    for b, band in enumerate(solution.block(parts[0]).labels):
        columns = np.array([solution.places(name)[b] for name in parts])
        center = truth.center(band)
        sine2 = 1 - (1 - BLUESHIFT / center) ** 2
        true = OFFSET + center * (np.sqrt(1 - sine2 * r2) - 1)
        rows = np.zeros((len(r2), len(solution.value)))
        rows[:, columns] = np.stack([np.ones_like(r2), r2], axis=1)
        off.append(rows @ np.nan_to_num(solution.value) - true)
        error.append(np.sqrt(np.diagonal(solution.covariance(rows))))
    return np.array(off), np.array(error)


def corners(n: int, rng: np.random.Generator) -> np.ndarray:
    """Places (n, 2) near the corners of the detector, at radii of 0.85 to 1."""
    side = rng.choice([-1.0, 1.0], (n, 2))
    return 0.5 * (1 + side * rng.uniform(0.85, 1.0, (n, 1))) * SIZE


def corner_colors(solution: JointSolution, made: Field, exact: SourceTable, per_star: int = 8) -> float:
    """Rms [mmag] of what colors of stars kept back are wrong by at the corners, measured without noise."""
    bands, rng = made.chain.bands, np.random.default_rng(3)
    truth, star = Truth(made.chain, exact), np.repeat(np.arange(len(exact)), per_star)
    at, off = corners(len(star), rng), []
    for k, band in enumerate(bands):
        part = _exposure(truth, exact, star, at, f"e{k:03d}", band, made.zero_point[k], rng, 0.0)
        rows = make_observations(**part, model=None)
        terms = tuple(
            dataclasses.replace(term, sources=exact, star_prior=False) if isinstance(term, Transmission) else term
            for term in solution.terms
        )
        added, _ = solution.with_terms(*terms).correction(rows, errors=False)
        true = truth.magnitude(band, star, np.ones(len(star)), 0.0)
        off.append((rows.magnitude + added - true).reshape(-1, per_star).mean(axis=1))
    return 1e3 * float(np.sqrt(np.nanmean((off[0] - off[1]) ** 2)))


# --- few calibrators --------------------------------------------------------------------------------------------------

FEW = {
    "water": Parameter(prior=3.0), "ozone": Parameter(prior=50.0), "aerosol": Parameter(prior=0.03),
    "angstrom": Parameter(prior=0.4), "filter_shift": Parameter(prior=5.0, field="radial", order=2, field_prior=3.0),
    "filter_scale": Parameter(prior=0.02), "detector_slope": Parameter(prior=0.03),
}  # fmt: skip
"""Eight values: the shift has two. Priors are what a site's weather and a laboratory leave."""


def clear_chain() -> TransmissionChain:
    """A telescope without filter: a detector's efficiency from 400 to 950 nm, under air."""
    wavelength = np.arange(390.0, 991.0, 10.0)
    rise, fall = (np.clip(a, 0.0, 1.0) for a in ((wavelength - 390) / 130, (990 - wavelength) / 330))
    efficiency = 0.9 * np.sin(0.5 * np.pi * rise) ** 2 * np.sin(0.5 * np.pi * fall) ** 2
    air = Atmosphere(airmass=1.3, water=8.0, ozone=300.0, aerosol=0.1)
    return TransmissionChain("clear", ("clear",), (Curve(wavelength, efficiency),), np.arange(380.0, 991.0), air)


class Crops:
    """Images of a few calibrators each, under air and a curve that are off by what the priors say."""

    def __init__(self, n_star: int = 16, noise: float = 0.005) -> None:
        self.n_star, self.noise, self.chain = n_star, noise, clear_chain()
        self.exact = stars(500, 31, faint=15.0)
        self.seen = measured(self.exact, 32)
        grid = np.arange(380.0, 991.0, STEP)
        design = load_instrument().design(grid)
        self.spectrum = np.asarray(self.exact.coefficients.value, float) @ (
            np.asarray(design.value) * np.asarray(design.scale)
        )
        own = {name: float(np.mean(np.asarray(self.chain.parameters[name]))) for name in FEW}

        def curve(change: dict[str, Any]) -> Any:
            return self.chain.transmission(grid, "clear", **{name: own[name] + change[name] for name in own})

        with engine.precision(True):
            self._curves = jax.jit(jax.vmap(curve))
        self.grid = grid

    def curves(self, change: dict[str, Any], n: int) -> np.ndarray:
        """Transmission (n, n_wavelength) with changed parameters, each (n,) or a number."""
        with engine.precision(True):
            return np.asarray(self._curves({name: np.broadcast_to(float(0) + change[name], n) for name in FEW}))

    def magnitude(self, mine: np.ndarray, curve: np.ndarray) -> np.ndarray:
        """AB magnitudes (n,) of stars through curves (n, n_wavelength)."""
        flux = (self.spectrum[mine] * curve * self.grid).sum(axis=1) / (curve / self.grid).sum(axis=1)
        return AB - 2.5 * np.log10(flux)

    def solve(self, seed: int) -> tuple[JointSolution, np.ndarray]:
        """An image solved, and the true values of its columns.

        True values lie within what the priors allow: evenly, with their standard deviations.
        """
        rng = np.random.default_rng(seed)
        mine = rng.choice(len(self.exact), self.n_star, replace=False)
        sigma = [one for p in FEW.values() for one in (p.prior, p.field_prior) if one]
        true = np.sqrt(3) * rng.uniform(-1, 1, len(sigma)) * np.array(sigma, float)
        x, y = rng.uniform(0, 1, (2, self.n_star)) * np.array(SIZE)[:, None]
        values, change = iter(true), {}
        for name, one in FEW.items():
            change[name] = next(values) + (next(values) * radius2(x, y) if one.field else 0.0)
        zero_point = 25.0 + rng.normal(0, 0.1)
        magnitude = self.magnitude(mine, self.curves(change, self.n_star)) - zero_point
        rows = make_observations(
            np.asarray(self.exact.source_id)[mine], x, y, magnitude + self.noise * rng.normal(size=self.n_star),
            np.full(self.n_star, self.noise), None, exposure="crop", band="clear", airmass=1.3,
        )  # fmt: skip
        term = Transmission(self.chain, self.seen[np.sort(mine)], FEW)
        model = JointModel(
            (ZeroPoint(), term), robust="none", clip=0.0, error_floor=0.0, min_observations=1,
            size=(0.0, SIZE[0], 0.0, SIZE[1]),
        )  # fmt: skip
        return solve_joint(rows, model), np.concatenate([[zero_point], true])


def few_calibrators(n_crop: int = 200, n_star: int = 16) -> Row:
    """Images of a few calibrators and eight parameters with priors: how far off these are, and the chi2."""
    crops, off, chi2, free = Crops(n_star), [], [], []
    started = time.perf_counter()
    for seed in range(n_crop):
        found, true = crops.solve(seed)
        off.append((found.value - true) / found.error(np.arange(len(true))))
        chi2.append(found.chi2)
        free.append(found.degrees_of_freedom)
    row = Row("passband", f"{n_star} calibrators, 8 parameters, {n_crop} images", n_crop, time.perf_counter() - started)
    zero, shape = np.abs(np.array(off)[:, :1]), np.abs(np.array(off)[:, 1:])
    row.error, row.error_of = float(shape.max()), "largest of all parameters and images [errors]"
    row.ratios = {
        "parameters beyond 3 errors": float((shape > 3).sum()), "width of pulls": float(np.sqrt((shape**2).mean())),
        "zero-points beyond 3 errors": float((zero > 3).sum()), "zero_point pull": float(np.sqrt((zero**2).mean())),
        "zero_point largest pull": float(zero.max()), "chi2 per degree of freedom": float(np.sum(chi2) / np.sum(free)),
        "degrees of freedom": float(np.mean(free)),
        "chi2 of 95 in 100 below": float(np.quantile(np.array(chi2) / np.array(free), 0.95)),
    }  # fmt: skip
    return row


POLYNOMIALS = {"color order 2, position_order 1": (2, 1), "color order 1, position_order 2": (1, 2)}
"""Color terms of six parameters in each band, beside four of the transmission term: the most alike that there are."""


def corner_residuals(made: Field, found: JointSolution, prior: StarPrior) -> dict[str, dict[str, float]]:
    """Rms [mmag] of colors at the corners of each kind of stars kept back, with the term and with polynomials."""
    solutions = {"transmission": found}
    for kind, (order, position_order) in POLYNOMIALS.items():
        term = Color(per="band", order=order, position_order=position_order)
        solutions[kind] = solve_joint(made.observations, model_with(term), prior=prior)
    (low, high), out = made.color_range, {}
    for name, exact in kept_back().items():
        color = np.asarray(exact.columns["bp_rp"])
        exact = exact[np.flatnonzero((color > low) & (color < high))]
        out[name] = {kind: corner_colors(solution, made, exact) for kind, solution in solutions.items()}
    return out


def without_noise(n_exposure: int, n_star: int) -> Field:
    """A field with magnitudes and spectra as they are, and the errors of noisy ones."""
    made, noisy = (field(n_exposure, n_star, noise=noise) for noise in (0.0, NOISE))
    o = dataclasses.replace(made.observations, magnitude_error=noisy.observations.magnitude_error)
    coefficients = dataclasses.replace(made.seen.coefficients, value=made.exact.coefficients.value)
    return dataclasses.replace(made, observations=o, seen=dataclasses.replace(made.seen, coefficients=coefficients))


def solved_field(made: Field) -> tuple[JointSolution, dict[str, dict[str, float]]]:
    """The solution of a field with a transmission term, and what colors of stars kept back are wrong by."""
    found = solve_joint(made.observations, model_with(Transmission(made.chain, made.seen, PARAMETERS)))
    return found, corner_residuals(made, found, xp_prior(made.seen, made.chain.passbands()))


def rms(values: Any) -> float:
    """Root mean square of numbers."""
    return float(np.sqrt(np.mean(np.square(values))))


def field_dependent(n_exposure: int = 40, n_star: int = 2000, n_survey: int = 5) -> Row:
    """A blueshift over the field recovered, and colors at the corners beside those of color(x, y) polynomials.

    Colors are compared with true ones, and have no noise of their own: what they are wrong by is what a model cannot
    hold, and the noise of its parameters, which differs from survey to survey. So their mean squares are those of
    several surveys, the range of single ones is given, and what is left without any noise.
    """
    started, off, error, chi2, each = time.perf_counter(), [], [], [], []
    for seed in range(n_survey):
        made = field(n_exposure, n_star, seed=seed)
        found, residuals = solved_field(made)
        one = field_values(found, Truth(made.chain, made.exact), np.linspace(0, 1, 11))
        off.append(one[0])
        error.append(one[1])
        chi2.append(found.chi2 / found.degrees_of_freedom)
        each.append(residuals)
    pulls, n = np.array(off) / np.array(error), n_survey * n_exposure * n_star
    case = f"over the field, {n_survey} surveys of {n_exposure} exposures x {n_star} stars"
    row = Row("passband", case, n, time.perf_counter() - started)
    row.error, row.error_of = 1e-9 * float(np.abs(off).max()), "largest error of the shift, any radius, any survey [m]"
    row.ratios = {
        "shift: off [nm]": rms(off), "shift: error [nm]": rms(error), "shift: pull": rms(pulls),
        "shift: pull at the center": rms(pulls[:, :, 0]), "shift: pull at the corner": rms(pulls[:, :, -1]),
        "shift: most off in errors": float(np.abs(pulls).max()), "chi2 per degree of freedom": float(np.mean(chi2)),
    }  # fmt: skip
    _, exact = solved_field(without_noise(n_exposure, n_star))
    for name in exact:
        ours = np.array([one[name]["transmission"] for one in each])
        theirs = {kind: np.array([one[name][kind] for one in each]) for kind in POLYNOMIALS}
        single = np.min(list(theirs.values()), axis=0) / ours
        row.ratios |= {f"{name}: corner colors [mmag]": rms(ours)}
        row.ratios |= {f"{name}: of {kind} [mmag]": rms(values) for kind, values in theirs.items()}
        row.ratios |= {
            f"{name}: ratio": min(map(rms, theirs.values())) / rms(ours),
            f"{name}: least ratio of a survey": float(single.min()), f"{name}: largest": float(single.max()),
            f"{name}: without noise [mmag]": exact[name]["transmission"],
            f"{name}: without noise, polynomials [mmag]": min(exact[name][kind] for kind in POLYNOMIALS),
        }  # fmt: skip
    return row


def kept_back(n: int = 150) -> dict[str, SourceTable]:
    """Exact spectra of stars that no fit has: behind dust, M dwarfs, and of all kinds."""
    return {
        "reddened": reddened(stars(2 * n, 78, color=(0.3, 1.0)), 0.6), "M dwarfs": stars(n, 79, color=(2.0, 3.0)),
        "others": stars(2 * n, 77),
    }  # fmt: skip


def run(quick: bool = False) -> list[Row]:
    """All of it; of a quick run smaller ones."""
    return [field_dependent(8, 600, 2), few_calibrators(20)] if quick else [field_dependent(), few_calibrators()]


def main() -> None:
    """Leave the figures in results/field_passband.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.field_passband", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    options = parser.parse_args()
    path = RESULTS / f"field_passband{'_quick' * options.quick}.json"
    print(report(run(options.quick), path, limits()))


if __name__ == "__main__":
    main()
