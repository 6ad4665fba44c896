"""Errors of zero-points: what frames have alike and what one has of its own, against frames that were made so."""

import dataclasses

import numpy as np
import pytest

from tests.survey.exposures.helpers import PLAIN, SETTINGS, fit, made
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.flat import DRAWS, StackedFlats
from xpjax.survey.exposures.levels import grid_places, with_zero_points
from xpjax.survey.exposures.results import ExposureFits
from xpjax.survey.observations import Observations, concatenate
from xpjax.survey.sky_floor import SKY_SIGMA

N_FRAME, WRONG = 60, 0.02
MODEL = dataclasses.replace(PLAIN, error_floor=0.0)


def frames(same_stars: bool, noise: float = 0.004) -> Observations:
    """Frames of 200 stars with models that are wrong by 0.02 mag, the same stars on all, or each with its own."""
    parts = []
    for k in range(N_FRAME):
        o = made(0 if same_stars else 100 + k, 200, noise, name=f"e{k}")
        rng = np.random.default_rng(k)
        own = rng.normal(size=200) * o.magnitude_error
        wrong = WRONG * np.random.default_rng(7 if same_stars else 1000 + k).normal(size=200)
        clean = 3 + 0.03 * (o.x / 2000 - 1) + 0.04 * (o.y / 2000 - 1) ** 2
        o = dataclasses.replace(
            o, model=o.magnitude + clean + own + wrong, model_error=np.full(200, WRONG),
            star=o.star + (0 if same_stars else 1000 * k),
        )  # fmt: skip
        parts.append(o)
    return concatenate(parts)


def solved(same_stars: bool) -> ExposureFits:
    o = frames(same_stars)
    return with_zero_points(o, fit(o, MODEL), None)


@pytest.mark.slow
def test_the_same_stars_are_wrong_on_all_frames_alike() -> None:
    found = solved(True)
    pull = (found.zero_point - found.zero_point.mean()) / found.zero_point_error
    assert pull.std() == pytest.approx(1, abs=0.2)
    assert (found.zero_point_error < 0.5 * found.zero_point_common).all()
    # The weight of a star hardly changes: the kernel's own figures are the same.
    kernel = fit(frames(True), MODEL)
    np.testing.assert_allclose(found.zero_point, kernel.zero_point, rtol=1e-12)
    np.testing.assert_allclose(found.zero_point_common, kernel.zero_point_common, rtol=0.25)


@pytest.mark.slow
def test_stars_of_one_frame_are_wrong_there_alone() -> None:
    found = solved(False)
    truth = 3 + np.median(0.03 * grid_places()[0] + 0.04 * grid_places()[1] ** 2)
    pull = (found.zero_point - truth) / found.zero_point_error
    assert pull.std() == pytest.approx(1, abs=0.2)
    assert abs(pull.mean()) < 4 / np.sqrt(N_FRAME)
    assert (found.zero_point_common < 0.3 * found.zero_point_error).all()
    kernel = fit(frames(False), MODEL)
    assert ((kernel.zero_point - truth) / kernel.zero_point_error).std() > 2  # noise alone would be far too little


@pytest.mark.slow
def test_a_wrong_flat_moves_all_frames_together() -> None:
    o = frames(True)
    fits = fit(o, MODEL)
    shape = (1, 10, 10)
    labels = np.array([["", "", "all"]])
    wrong = 0.01 * np.random.default_rng(3).normal(size=(1, 100, DRAWS))
    draws = np.concatenate([0 * wrong, wrong], axis=-1)
    flats = StackedFlats(labels, np.zeros(shape), np.full(shape, 0.01), np.full(shape, 5), 1, draws)
    without, found = with_zero_points(o, fits, None), with_zero_points(o, fits, flats)
    np.testing.assert_allclose(found.zero_point, without.zero_point, rtol=1e-12)
    extra = np.sqrt(found.zero_point_common**2 - without.zero_point_common**2)
    assert (extra > 1e-4).all()
    assert (extra < 0.01).all()
    # Another gradient has its median elsewhere on the detector: there the flat is wrong by something else.
    value = fits.value.copy()
    value[::2, 1] += 0.3
    value[::2, 2] -= 0.3
    tilted = dataclasses.replace(fits, value=value)
    apart, bare = with_zero_points(o, tilted, flats), with_zero_points(o, tilted, None)
    alike = found.zero_point_error**2 - without.zero_point_error**2
    assert np.median(apart.zero_point_error**2 - bare.zero_point_error**2) > 2 * np.median(alike)


def test_a_flat_belongs_to_the_zero_point() -> None:
    o = frames(True)
    fits = fit(o, MODEL)
    flats = StackedFlats(
        np.array([["", "", "all"]]), np.full((1, 4, 4), 0.25), np.full((1, 4, 4), np.inf), np.zeros((1, 4, 4)), 1
    )
    found = with_zero_points(o, fits, flats)
    np.testing.assert_allclose(found.zero_point, fits.zero_point + 0.25, rtol=1e-12)
    assert np.isfinite(found.zero_point_error).all()


@pytest.mark.slow
def test_frames_without_standards_keep_what_they_have() -> None:
    o = concatenate([made(1, name="a"), dataclasses.replace(made(2, name="b"), model=np.full(300, np.nan))])
    fits = fit(o)
    found = with_zero_points(o, fits, None)
    assert np.isnan(found.zero_point[1])
    assert np.isnan(found.zero_point_error[1])
    alone = fit(made(1, name="a"))
    assert found.zero_point[0] == pytest.approx(alone.zero_point[0], rel=1e-9)
    assert found.zero_point_error[0] == pytest.approx(alone.zero_point_error[0], rel=0.05)


def dithered(seed: int, clouds: float = 0.0, n_frame: int = 24, n: int = 400) -> tuple[Observations, np.ndarray]:
    """Dithered frames of stars whose models are wrong by cells of the sky, a quarter of the detector wide.

    Every other frame has clouds of one wave of this size [mag]. Also the true zero-points.
    """
    rng = np.random.default_rng(seed)
    east, north = rng.uniform(-0.3, 1.3, (2, 2 * n))
    cell = (np.floor(4 * east) + 100 * np.floor(4 * north) + 1000).astype(int)
    wrong = SKY_SIGMA * rng.standard_normal(2000)[cell]
    parts, truth = [], []
    for k in range(n_frame):
        (phase, angle), size = rng.uniform(0, 6, 2), clouds * (k % 2)

        def added(u: np.ndarray, v: np.ndarray, phase=phase, angle=angle, size=size) -> np.ndarray:
            flat = 0.03 * u + 0.04 * v**2 + 0.003 * np.sin(3 * u + 1) * np.cos(3 * v)
            return 3 + flat + size * np.cos(phase + 0.5 * u * np.cos(angle) + 0.5 * v * np.sin(angle))

        x, y = (4000 * (a + d) for a, d in zip((east, north), rng.uniform(-0.1, 0.1, 2), strict=True))
        o, u, v = made(0, 2 * n, 0.002, name=f"e{k}"), x / 2000 - 1, y / 2000 - 1
        noise = rng.normal(size=2 * n) * o.magnitude_error
        model = o.magnitude + added(u, v) + noise + wrong
        o = dataclasses.replace(o, x=x, y=y, model=model, model_error=np.zeros(2 * n), sky_cell=cell)
        parts.append(o[(np.abs(u) < 1) & (np.abs(v) < 1)])
        truth.append(np.median(added(*grid_places())))
    return concatenate(parts), np.array(truth)


@pytest.mark.slow
@pytest.mark.parametrize(("stacked", "clouds"), [(False, 0.0), (True, 0.01)])
def test_errors_on_the_sky_are_in_zero_points_as_dithers_and_clouds_have_them(stacked: bool, clouds: float) -> None:
    settings = dataclasses.replace(SETTINGS, stacked_flat=stacked, bins=8)
    pulls, without = [], []
    for seed in range(8):
        o, truth = dithered(seed, clouds)
        found = calibrate(o, settings)[0].fits
        off = found.zero_point - truth
        pulls.append((off - off.mean()) / found.zero_point_error)
        bare = calibrate(dataclasses.replace(o, sky_cell=None), settings)[0].fits
        np.testing.assert_array_equal(bare.zero_point, found.zero_point)
        without.append((off - off.mean()) / bare.zero_point_error)
    assert np.std(pulls) == pytest.approx(1, abs=0.2)
    assert np.std(without) > 1.15
    assert np.std(without) > 1.2 * np.std(pulls)
