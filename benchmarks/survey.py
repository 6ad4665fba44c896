"""Survey calibration: stars of a real field kept back, a simulated mini-SiTian survey, speed beside statsmodels.

A survey of any size by itself: python -m benchmarks.survey --exposures 3100 --stars 7200 --nights 100 (5,000 stars on
each exposure: ten minutes, 6 GB). Its results are stored too, and promises are judged by the largest.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import DATA, PeakMemory, Row, absent, best, measure
from xpjax.survey.exposures.apply import apply_calibration
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.cross_validation import cross_validate
from xpjax.survey.exposures.fit import fit_exposures
from xpjax.survey.exposures.model import ExposureModel, scaling
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.exposures.solution import Calibration
from xpjax.survey.observations import Observations, concatenate, group_median, make_observations
from xpjax.survey.report.statistics import structure
from xpjax.survey.robust import MAD
from xpjax.survey.simulation.setup import SurveyEffects, SurveySetup
from xpjax.survey.simulation.survey import SimulatedSurvey, Truth

FIELD = DATA / "splus" / "stripe82_0001_400.fits"
BANDS = ("F378", "F395", "F410", "F430", "G", "F515", "R", "F660", "I", "F861", "Z")
COLOR_ZERO = 1.0
"""Color [mag] at which color terms of simulated surveys are zero."""
PUBLISHED = {"R": 11.9, "I": 11.1, "G": 16.0, "Z": 11.7}
"""1.48 MAD [mmag] of stars kept back from a robust fit with quadratics in X, Y and color."""


def real_field(bands: tuple[str, ...] = BANDS) -> Observations:
    """The S-PLUS field: 400 stars, instrumental magnitudes in 11 bands with XP models; a frame for each band."""
    from xpjax.io.catalogue import read_catalogue

    c = read_catalogue(FIELD).columns
    color = c["SPLUS_G_mod"] - c["SPLUS_I_mod"]
    return concatenate(
        [
            make_observations(
                c["source_id"], c["X"], c["Y"], c[f"SPLUS_{b}"], c[f"SPLUS_{b}_err"], c[f"SPLUS_{b}_mod"], color=color,
                exposure="STRIPE82-0001", band=b,
            )
            for b in bands
        ]
    )  # fmt: skip


def held_out(bands: tuple[str, ...], n_case: int) -> list[Row]:
    """Bands of the real field: what the magnitude term and the numerical flat add to quadratics."""
    if not FIELD.exists():
        return [absent("survey", "stars held out of a real field", f"no {FIELD}")]
    field = real_field(bands)
    cases = {
        "quadratics in X, Y, color": CalibrationSettings(ExposureModel(magnitude_order=0)),
        "and a magnitude term where needed": CalibrationSettings(ExposureModel()),
        "and the numerical flat": CalibrationSettings(ExposureModel(), numerical_flat=True),
        "flat without magnitude term": CalibrationSettings(ExposureModel(magnitude_order=0), numerical_flat=True),
    }
    rows = []
    for name, settings in [*cases.items()][:n_case]:
        started = time.perf_counter()
        found = cross_validate(field, settings, folds=10)
        seconds = time.perf_counter() - started
        pull = np.abs(found.residual / found.error)
        for k, band in enumerate(field.frames.band):
            row = Row("survey", f"held out, {band}: {name}", int(found.number[k]), seconds)
            row.error, row.error_of = float(found.scatter[k]), "1.48 MAD of stars kept back [mag], all stars"
            row.ratios = {
                "standard deviation [mmag]": 1e3 * float(found.rms[k]),
                "pull": float(MAD * np.nanmedian(pull[field.frame == k])),
            }
            if band in PUBLISHED:
                row.ratios["over the published robust fit"] = 1e3 * row.error / PUBLISHED[band]
            rows.append(row)
    return rows


# --- simulated --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Found:
    """What a simulated survey shows, in millimagnitudes and pulls."""

    zero_point_scatter: float
    zero_point_formal: float
    zero_point_systematic: float
    pull: float
    pull_clear: float
    """Of exposures without clouds, whose gradients move a median about among the errors of the flat."""
    structure_before: float
    structure: float
    structure_of_standards: float
    corner: float
    corner_median: float
    repeatability_excess: float
    seconds: float
    n: int


def minisitian(
    n_exposure: int = 200, n_star: int = 3000, n_night: int = 10, seed: int = 0, bins: int = 30, **change: Any
) -> Found:
    """Calibrate four fifths of a simulated survey, and look at its zero-points, flats and repeatability.

    The models have no errors on the sky or of the instrument, which no flat can take: `survey_demo` has them.
    """
    change = {"effects": SurveyEffects(sky=0.0, instrument=0.0), **change}
    setup = SurveySetup(n_exposure=n_exposure, n_star=n_star, n_night=n_night, bands=("g",), seed=seed, **change)
    survey = SimulatedSurvey(setup)
    size = (0.0, survey.setup.size[0], 0.0, survey.setup.size[1])
    model = ExposureModel(color_zero=COLOR_ZERO)
    kept_back = np.arange(n_exposure) % 5 == 4
    mine, _ = survey.observe(np.flatnonzero(~kept_back))
    started = time.perf_counter()
    stacked, _ = calibrate(mine, CalibrationSettings(model, size=size, stacked_flat=True, bins=bins))
    seconds = time.perf_counter() - started
    scatter, formal, systematic, *pulls = zero_points(survey, stacked, np.flatnonzero(~kept_back))
    others, truth = survey.observe(np.flatnonzero(kept_back))
    plain = dataclasses.replace(stacked, flats=None)
    before, after = (apply_calibration(solution, others) for solution in (plain, stacked))
    u, v = scaling(others, model, size).places(others.frame, others.x, others.y)
    good = ~truth.disturbed & np.isfinite(after.magnitude)
    place, variance = (u[good], v[good]), truth.error[good] ** 2

    def level(values: np.ndarray) -> np.ndarray:
        return (values - group_median(values, others.frame, len(others.frames))[others.frame])[good]

    true = [structure(*place, level(rows.magnitude - truth.magnitude), variance) for rows in (before, after)]
    standard = np.hypot(variance**0.5, stacked.fits.floor.mean()) ** 2
    corner, corner_median = corners(survey, model, size)
    return Found(
        1e3 * scatter, 1e3 * formal, 1e3 * systematic, *pulls, 1e3 * true[0], 1e3 * true[1],
        1e3 * structure(*place, level(after.residual), standard), 1e3 * corner, 1e3 * corner_median,
        1e3 * repeatability(others, after.magnitude, truth), seconds, len(mine),
    )  # fmt: skip


def zero_points(survey: SimulatedSurvey, solution: Calibration, exposures: np.ndarray) -> tuple[float, ...]:
    """Scatter about the truth less what all have alike, formal and systematic error, pulls of all and of clear ones."""
    fits = solution.fits
    difference = fits.zero_point - survey.true_zero_points(exposures, COLOR_ZERO)
    difference = difference - np.median(difference)
    pull = difference / fits.zero_point_error
    formal = float(np.sqrt(np.mean(fits.zero_point_error**2)))
    clear = survey.plan.cloud[exposures] == 0
    common = float(np.median(fits.zero_point_common))
    return float(difference.std()), formal, common, float(pull.std()), float(pull[clear].std())


def corners(survey: SimulatedSurvey, model: ExposureModel, size: tuple[float, ...], n: int = 8) -> tuple[float, float]:
    """RMS and 1.48 MAD of what single-exposure numerical flats are off by in the corners (outer tenth both ways)."""
    rows, truth = survey.observe(np.linspace(0, survey.setup.n_exposure - 1, n).astype(int))
    _, single = calibrate(rows, CalibrationSettings(model, size=size, numerical_flat=True))
    off = (single.magnitude - rows.magnitude) - truth.correction
    off = off - group_median(off, rows.frame, n)[rows.frame]
    u, v = scaling(rows, model, size).places(rows.frame, rows.x, rows.y)
    corner = (np.abs(u) > 0.8) & (np.abs(v) > 0.8) & np.isfinite(off)
    return float(np.sqrt(np.mean(off[corner] ** 2))), float(MAD * np.median(np.abs(off[corner])))


def repeatability(rows: Observations, magnitude: np.ndarray, truth: Truth, brighter: float = 13.0) -> float:
    """What bright constant stars scatter by beyond theory, in quadrature, the median star."""
    off = np.where(truth.disturbed, np.nan, magnitude - truth.magnitude)
    _, one = np.unique(rows.star, return_inverse=True)
    n = one.max() + 1
    good = np.isfinite(off)
    seen = np.bincount(one[good], minlength=n)
    mean = np.bincount(one[good], off[good], n) / np.maximum(seen, 1)
    square = np.bincount(one[good], (off[good] - mean[one[good]]) ** 2, n) / np.maximum(seen - 1, 1)
    theory = np.bincount(one[good], truth.error[good] ** 2, n) / np.maximum(seen, 1)
    bright = np.bincount(one[good], truth.magnitude[good], n) / np.maximum(seen, 1) < brighter
    chosen = bright & (seen >= 10)
    if not chosen.any():
        return float("nan")
    excess = np.average(square[chosen] - theory[chosen], weights=1 / theory[chosen] ** 2)
    return float(np.sqrt(max(excess, 0.0)))


def simulated(n_exposure: int = 200, n_star: int = 3000, n_night: int = 10, seed: int = 0) -> Row:
    """A row of `minisitian`; seconds are those of the calibration."""
    with PeakMemory() as memory:
        found = minisitian(n_exposure, n_star, n_night, seed)
    row = Row("survey", f"simulated mini-SiTian, {n_exposure:,} exposures, seed {seed}", n_exposure, found.seconds)
    row.peak_bytes = memory.bytes
    row.error, row.error_of = 1e-3 * found.zero_point_scatter, "scatter of zero-points about the truth [mag]"
    row.ratios = {
        "observations": float(found.n),
        "zero-point scatter over formal": found.zero_point_scatter / found.zero_point_formal,
        "pull": found.pull,
        "pull of clear exposures": found.pull_clear,
        "XP floor of zero-points [mmag]": found.zero_point_systematic,
        "structure before, held-out exposures [mmag]": found.structure_before,
        "structure after [mmag]": found.structure,
        "structure of standards' residuals [mmag]": found.structure_of_standards,
        "numerical flat at corners, rms [mmag]": found.corner,
        "numerical flat at corners, 1.48 MAD [mmag]": found.corner_median,
        "repeatability beyond theory [mmag]": found.repeatability_excess,
    }
    return row


# --- speed ------------------------------------------------------------------------------------------------------------


def sixty(n_exposure: int = 60, n_star: int = 2200) -> tuple[Observations, SimulatedSurvey]:
    """Exposures of about n_star stars with outliers and a quadratic flat."""
    survey = SimulatedSurvey(
        SurveySetup(
            n_exposure=n_exposure,
            n_star=n_star,
            n_night=3,
            bands=("g",),
            dither=0.0,
            effects=SurveyEffects(flat=(0.05, 0.0, 0.0), variable=0.0),
        ),
    )
    return survey.observe()[0], survey


def speed(repeats: int, n_peer: int) -> list[Row]:
    """The fit of 60 exposures x 2200 stars from and to host arrays, and other packages on the first n_peer of them."""
    rows, survey = sixty()
    model = ExposureModel(magnitude_order=0, color_zero=COLOR_ZERO)
    scale = scaling(rows, model, (0.0, survey.setup.size[0], 0.0, survey.setup.size[1]))
    n = len(rows.frames)
    ours = measure(
        "survey", f"{n} exposures x 2200 stars, robust", n, lambda: fit_exposures(rows, model, scale=scale), repeats,
        bytes_per_source=_bytes(rows) // n,
    )  # fmt: skip
    fits = fit_exposures(rows, model, scale=scale)
    off = fits.zero_point - survey.true_zero_points(color_zero=COLOR_ZERO)
    ours.error = float(np.std(off - np.median(off)))
    ours.error_of = "scatter of zero-points about the truth [mag]"
    ours.ratios["seconds"] = ours.seconds
    return [ours, *peers(rows, survey, scale, ours, n_peer)]


def _bytes(rows: Observations) -> int:
    """Size of the columns that a fit reads."""
    names = ("frame", "x", "y", "magnitude", "magnitude_error", "model", "model_error", "color")
    return sum(getattr(rows, name).nbytes for name in names)


def peers(rows: Observations, survey: SimulatedSurvey, scale: Any, ours: Row, n_exposure: int) -> list[Row]:
    """statsmodels' robust (Tukey after Huber's start) and weighted fits, and stdpipe's, exposure by exposure."""
    try:
        import statsmodels.api as sm
    except ImportError:
        return [absent("survey", "statsmodels, the same exposures", "not installed: pip install 'statsmodels<0.15'")]
    u, v = scale.places(rows.frame, rows.x, rows.y)
    c = rows.color - scale.color_zero
    design = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v, c, c * c], axis=1)
    difference = rows.model - rows.magnitude
    error = np.sqrt(rows.magnitude_error**2 + rows.model_error**2 + 0.0024**2)
    edges = np.searchsorted(rows.frame, np.arange(n_exposure + 1))
    grid = (np.arange(20) + 0.5) / 10 - 1
    gu, gv = (a.ravel() for a in np.meshgrid(grid, grid))
    places = np.stack([np.ones_like(gu), gu, gv, gu * gu, gu * gv, gv * gv, 0 * gu, 0 * gu], axis=1)

    def robust(a: int, b: int) -> np.ndarray:
        w = 1 / error[a:b]
        x, y = design[a:b] * w[:, None], difference[a:b] * w
        start = sm.RLM(y, x, M=sm.robust.norms.HuberT()).fit()
        return sm.RLM(y, x, M=sm.robust.norms.TukeyBiweight()).fit(start_params=start.params).params

    def weighted(a: int, b: int) -> np.ndarray:
        keep = np.ones(b - a, bool)
        for _ in range(10):  # fit and clip, as pipelines do
            fit = sm.WLS(difference[a:b][keep], design[a:b][keep], weights=error[a:b][keep] ** -2).fit()
            off = difference[a:b] - design[a:b] @ fit.params
            now = np.abs(off) < 3 * np.sqrt(error[a:b] ** 2)
            if (now == keep).all():
                break
            keep = now
        return fit.params

    peers = {
        "statsmodels RLM": lambda a, b: np.median(places @ robust(a, b)),
        "statsmodels WLS with clipping": lambda a, b: np.median(places @ weighted(a, b)),
    }
    try:
        from stdpipe.photometry_model import match
    except ImportError:
        match = None
    size = survey.setup.size
    gx, gy = (gu + 1) / 2 * size[0], (gv + 1) / 2 * size[1]

    def stdpipe(a: int, b: int, robust: bool) -> float:
        """Its whole function, which matches stars by position first: here each with itself, far from all others."""
        own, sky = slice(a, b), np.arange(b - a) * 0.01
        found = match(
            sky, 0 * sky, rows.magnitude[own], rows.magnitude_error[own], np.zeros(b - a, int), sky, 0 * sky,
            rows.model[own], rows.model_error[own], rows.color[own] - scale.color_zero, sr=1 / 3600, obj_x=rows.x[own],
            obj_y=rows.y[own], spatial_order=2, robust=robust,
        )  # fmt: skip
        return float(np.median(found["zero_fn"](gx, gy)))

    if match is not None:
        peers |= {
            "stdpipe, weighted": lambda a, b: stdpipe(a, b, False),
            "stdpipe, robust": lambda a, b: stdpipe(a, b, True),
        }
    out = [] if match else [absent("survey", "stdpipe, the same exposures", "not installed")]
    for name, function in peers.items():
        values: list[float] = []

        def loop(function: Any = function, values: list[float] = values) -> None:
            values[:] = [function(a, b) for a, b in itertools.pairwise(edges)]

        row = Row("survey", f"{name}, the same exposures", n_exposure, best(loop, 2))
        zero = np.array(values) - survey.true_zero_points()[:n_exposure]
        row.error, row.error_of = float(np.std(zero - np.median(zero))), ours.error_of
        row.ratios["time over xpjax"] = ours.rate / row.rate  # an exposure
        out.append(row)
    return out


def run(quick: bool) -> list[Row]:
    """A quick run: the fit of 60 exposures, other packages on six, and one model in bands with published figures."""
    if quick:
        return [*speed(9, 6), *held_out(tuple(PUBLISHED), 1)]
    return [*speed(25, 60), *held_out(BANDS, 4), simulated()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survey", description=__doc__)
    parser.add_argument("--exposures", type=int, default=200)
    parser.add_argument("--stars", type=int, default=3000, help="of which 69 %% are on an exposure")
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    rows = [simulated(options.exposures, options.stars, options.nights, seed) for seed in options.seed]
    name = f"{harness.machine()['platform']}_minisitian_{options.exposures}.json"
    print(harness.report(rows, harness.RESULTS / name, harness.limits()))


if __name__ == "__main__":
    main()
