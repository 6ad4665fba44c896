"""Numbers of a report: against SciPy, NumPy and what was put in; figures that are made, and why others are not."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from tests.survey.exposures.test_solution import SETTINGS, nights
from xpjax.survey.exposures.solution import calibrate
from xpjax.survey.noise import Camera
from xpjax.survey.observations import Frames, Observations, concatenate
from xpjax.survey.report import figures
from xpjax.survey.report.statistics import (
    Evidence,
    Missing,
    band_numbers,
    cell_means,
    correlation,
    difference_numbers,
    flat_maps,
    gather_evidence,
    gaussian,
    light_curve,
    line,
    repeatability,
    same_measurements,
    structure,
    table_of_differences,
    trend,
    variable_stars,
)

N_FRAME, BANDS = 8, ("g", "r")
PERIOD = 0.37


def two_bands() -> Observations:
    """Two bands of eight exposures of the same stars, one of which varies."""
    parts = []
    for band in BANDS:
        o = nights([300] * N_FRAME)
        star = o.star - 1000 * o.frame
        swing = np.where(star == 7, 0.3 * np.sin(2 * np.pi * (60000 + 0.11 * o.frame) / PERIOD), 0.0)
        frames = dataclasses.replace(
            o.frames,
            band=np.full(N_FRAME, band),
            time=60000 + 0.11 * np.arange(N_FRAME),
            airmass=1 + 0.05 * np.arange(8),
        )
        parts.append(dataclasses.replace(o, frames=frames, star=star, magnitude=star / 100 + 12 + swing + 0 * o.x))
        noise = np.random.default_rng(len(parts)).normal(size=len(o)) * o.magnitude_error
        parts[-1] = dataclasses.replace(parts[-1], model=parts[-1].magnitude - swing + (o.model - o.magnitude) + noise)
    return concatenate(parts)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    o = two_bands()
    solution, rows = calibrate(o, dataclasses.replace(SETTINGS, numerical_flat=True))
    found = gather_evidence(solution, rows.catalogue(), solution.zero_points())
    rng = np.random.default_rng(0)
    n = len(o.frames)
    shared = np.tile(rng.normal(size=N_FRAME), 2)
    difference = 0.003 * shared * np.repeat([1.0, -2.0], N_FRAME) + 0.0003 * rng.normal(size=n)
    tiles = {"ra": rng.uniform(0, 5, n), "dec": rng.uniform(0, 5, n), "ebv": shared, "rv": 3.1 + 0.1 * shared}
    return dataclasses.replace(found, differences={"truth": difference}, tiles=tiles, camera=Camera())


def test_gaussians_are_those_of_scipy_without_the_tails() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(2.0, 0.5, 20_000)
    mean, sigma = gaussian(np.concatenate([values, rng.uniform(-50, 50, 400), [np.nan]]))
    expected = stats.norm.fit(values)
    assert mean == pytest.approx(expected[0], abs=0.01)
    assert sigma == pytest.approx(expected[1], rel=0.02)
    assert stats.norm.fit(np.concatenate([values, rng.uniform(-50, 50, 400)]))[1] > 5 * sigma
    assert np.isnan(gaussian(np.ones(3))[1])


def test_trends_are_medians_of_scipys_bins() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 10, 5000)
    y = 0.1 * x + rng.normal(size=5000)
    y[::50] = 1e3
    found = trend(x, y, 10)
    expected, _, _ = stats.binned_statistic(x, y, "median", bins=np.quantile(x, np.linspace(0, 1, 11)))
    np.testing.assert_allclose(found.median, expected, atol=0.02)
    assert np.abs(found.median - 0.1 * found.x).max() < 4 * found.error.max()
    assert np.median(found.error) == pytest.approx(1.2533 / np.sqrt(500), rel=0.15)
    with pytest.raises(Missing, match="one value"):
        trend(np.ones(50), y[:50])


def test_structure_is_what_was_put_in_beyond_the_noise() -> None:
    rng = np.random.default_rng(3)
    u, v = rng.uniform(-1, 1, (2, 40_000))
    wave = (
        0.004 * np.sqrt(2) * np.sin(6 * u) * np.sin(9 * v + 1) / np.std(np.sin(6 * u) * np.sin(9 * v + 1)) / np.sqrt(2)
    )
    noise = rng.normal(size=40_000) * 0.02
    assert structure(u, v, wave + noise, np.full(40_000, 0.02**2)) == pytest.approx(0.004, rel=0.1)
    assert structure(u, v, noise, np.full(40_000, 0.02**2)) < 0.001
    mean, variance = cell_means(u, v, noise, np.full(40_000, 0.02**2), 2)
    lower_left = (u < 0) & (v < 0)
    assert mean[0, 0] == pytest.approx(noise[lower_left].mean(), rel=1e-9)
    assert variance[0, 0] == pytest.approx(0.02**2 / lower_left.sum(), rel=1e-9)


def test_the_same_measurements_are_found() -> None:
    frame, star = np.array([0, 1, 1, -1, 2]), np.array([5, 5, 9, 5, 7])
    found = same_measurements(frame, star, np.array([1, 0, 2]), np.array([5, 5, 8]))
    assert found.tolist() == [1, 0, -1, -1, -1]
    assert same_measurements(frame, star.astype(str), np.array([1]), np.array([9])).tolist() == [-1, -1, 0, -1, -1]


@pytest.mark.slow
def test_correlations_and_slopes(evidence: Evidence) -> None:
    bands, first, difference = table_of_differences(evidence, "truth")
    assert bands == list(BANDS)
    assert difference.shape == (N_FRAME, 2)
    found = correlation(bands, difference)
    np.testing.assert_allclose(found.r, np.corrcoef(difference.T), atol=1e-12)
    ((y, x, r, slope, error),) = found.slopes
    assert (y, x) == ("r", "g")
    assert r < -0.9
    assert abs(slope + 2) < 4 * error
    assert not correlation(bands, np.random.default_rng(0).normal(size=(50, 2))).slopes
    _, tilt, tilt_error = line(evidence.tiles["ebv"][first], difference[:, 0])
    assert abs(tilt - 0.003) < 4 * tilt_error
    numbers = difference_numbers(evidence, "truth")[0]
    own = evidence.differences["truth"][:N_FRAME]
    assert numbers.rms == pytest.approx(np.std(own), rel=1e-9)
    formal = evidence.solution.fits.zero_point_error[:N_FRAME]
    assert numbers.pull == pytest.approx(np.std((own - np.median(own)) / formal), rel=1e-9)


@pytest.mark.slow
def test_the_table_on_top(evidence: Evidence) -> None:
    one = band_numbers(evidence)[0]
    assert (one.band, one.n_frame, one.n_refused) == ("g", N_FRAME, 0)
    assert 0.8 < one.pull < 1.2
    mine = evidence.of_band("g")
    assert one.residual_rms == pytest.approx(np.nanstd(evidence.rows["residual"][mine]), rel=0.1)
    assert np.isnan(one.held_scatter)


def test_flat_maps_before_and_after(evidence: Evidence) -> None:
    found = flat_maps(evidence, "g")
    assert list(found.maps) == ["before", "after the numerical flat"]
    assert all(np.isfinite(m).any() for m in found.maps.values())
    with pytest.raises(Missing, match="positions"):
        flat_maps(evidence, "z")


def test_variables_and_their_periods(evidence: Evidence) -> None:
    found = repeatability(evidence, "g")
    assert found.number.max() == N_FRAME
    own = evidence.rows["magnitude"][evidence.of_band("g") & (evidence.rows["star"] == 12)]
    assert found.scatter[found.star == 12][0] == pytest.approx(own.std(ddof=1), rel=1e-9)
    assert variable_stars(found, 1).tolist() == [7]
    with pytest.raises(Missing, match="fewer than ten"):
        light_curve(evidence, "g", 7, PERIOD)
    whole = dataclasses.replace(evidence, rows={k: np.concatenate([v] * 2) for k, v in evidence.rows.items()})
    curve = light_curve(whole, "g", 7, PERIOD)
    assert len(curve.time) == 2 * N_FRAME
    np.testing.assert_allclose(curve.phase[:N_FRAME], (0.11 * np.arange(N_FRAME) / PERIOD) % 1, atol=1e-6)
    assert curve.told == "period 0.37 d, as given"
    with pytest.raises(Missing, match="no star has 99"):
        repeatability(evidence, "g", 99)


def seen_often(evidence: Evidence, swing: float) -> Evidence:
    """Thirty exposures of one star, at other times and with other magnitudes; the star swings so much [mag]."""
    rng = np.random.default_rng(5)
    n = 30
    time = 60000.7 + np.arange(n) // 3 + rng.uniform(-0.17, 0.17, n)
    names = {name: np.full(n, "") for name in ("detector", "night")}
    many = Frames(
        np.array([f"e{k}" for k in range(n)]), np.full(n, "g"), **names, time=time, airmass=np.full(n, np.nan)
    )
    rows = {
        "frame": np.arange(n), "star": np.full(n, 7), "status": np.zeros(n, np.uint32),
        "magnitude": 15 + swing * np.sin(2 * np.pi * time / PERIOD) + rng.normal(0, 0.01, n),
        "magnitude_error": np.full(n, 0.01),
    }  # fmt: skip
    return Evidence(dataclasses.replace(evidence.solution, frames=many), rows, evidence.zero_points)


def test_a_period_is_stated_where_there_is_one(evidence: Evidence) -> None:
    curve = light_curve(seen_often(evidence, 0.1), "g", 7)
    value, error = (float(curve.told.split()[k]) for k in (1, 3))
    assert abs(value - PERIOD) < 5 * error < 0.01
    assert np.isfinite(curve.folded).any()
    constant = light_curve(seen_often(evidence, 0.0), "g", 7)
    assert constant.told.startswith("no significant period (0.021 to 9")
    assert np.isnan(constant.period)
    assert np.isnan(constant.folded).all()
    drawn, found = figures.draw_light_curves(dataclasses.replace(seen_often(evidence, 0.1), periods={"7": 0.5}))
    assert found == ("star 7, g: period 0.5 d, as given",)
    assert drawn.axes


def test_what_was_not_given_is_not_stated(evidence: Evidence) -> None:
    one = band_numbers(evidence)[0]
    assert np.isnan(one.systematic)  # no errors of models
    assert np.isnan(evidence.solution.zero_points().columns["zero_point_systematic"]).all()
    page = figures.page("page", evidence, ()).decode()
    assert "<td>not stated</td>" in page
    assert "came without errors of models" in page
    settings = dataclasses.replace(evidence.solution.settings, systematic_error=0.004)
    given = dataclasses.replace(evidence, solution=dataclasses.replace(evidence.solution, settings=settings))
    assert band_numbers(given)[0].systematic == pytest.approx(0.004, rel=0.2)
    assert "not stated" not in figures.page("page", given, ()).decode()
    s = evidence.solution.standards
    known = dataclasses.replace(evidence.solution, standards=dataclasses.replace(s, model_error=s.model_error + 0.01))
    assert np.isfinite(known.zero_point_systematic()).all()
    nights = dataclasses.replace(evidence.solution.frames, night=np.full(2 * N_FRAME, ""))
    blind = dataclasses.replace(nights, airmass=np.full(2 * N_FRAME, np.nan))
    told = figures.page(
        "p", dataclasses.replace(evidence, solution=dataclasses.replace(evidence.solution, frames=blind)), ()
    )
    assert "the median of all frames (nights are not known); airmasses are not known" in told.decode()


def test_one_difference_has_no_scatter(evidence: Evidence) -> None:
    single = np.where(np.arange(2 * N_FRAME) == 0, 0.002, np.nan)
    numbers = difference_numbers(dataclasses.replace(evidence, differences={"x": single}), "x")[0]
    assert numbers.number == 1
    assert np.isnan([numbers.scatter, numbers.rms, numbers.pull]).all()
    five = np.random.default_rng(2).normal(size=(5, 2))
    five[:, 1] = five[:, 0] + 0.45 * five[:, 1]  # |r| above 0.8 in many draws of five, by chance in one of ten
    assert not correlation(["g", "r"], five).slopes


@pytest.mark.slow
def test_every_figure_is_made_or_says_why_not(evidence: Evidence) -> None:
    made = {section.title: section for section in figures.sections(evidence)}
    without = {name: section.missing for name, section in made.items() if section.figure is None}
    assert set(without) == {"XPSP - SCR", "Light curves", "Stars kept back", "Exposures kept back"}
    assert "stars=" in without["XPSP - SCR"]
    assert "held_stars=" in without["Stars kept back"]
    page = figures.page("a <b>", evidence, list(made.values()), ["cut flags: 3 removed"]).decode()
    assert page.count("<img ") == len(made) - len(without)
    assert page.count("Not made: ") == len(without)
    assert "a &lt;b&gt;" in page
    assert "cut flags: 3 removed" in page
    assert "<script" not in page
    assert "http" not in page.split("</style>")[0]


def test_rows_without_anything_are_no_crash(evidence: Evidence) -> None:
    rows = {k: (v * np.nan if v.dtype.kind == "f" else v) for k, v in evidence.rows.items()}
    bare = Evidence(evidence.solution, rows, evidence.zero_points)
    made = figures.sections(bare)
    assert {s.title for s in made if s.figure is not None} <= {"Flats before and after", "Zero-points of the nights"}
    none = Evidence(evidence.solution, {k: v[:0] for k, v in rows.items()}, evidence.zero_points)
    assert figures.page("none", none, figures.sections(none))
