"""Zero-points of frames with one to three standards, against the truth: what they could not tell is in their errors."""

import dataclasses

import numpy as np
import pytest

from tests.survey.exposures.helpers import SETTINGS, made
from xpjax.survey import FrameFlag
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.levels import grid_places
from xpjax.survey.exposures.results import ExposureFits
from xpjax.survey.observations import concatenate


def ripple(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What no polynomial of a frame holds."""
    return 0.01 * np.sin(7 * u + 1) * np.cos(6 * v + 2)


def solved(good: int, weak: int, seed: int) -> tuple[ExposureFits, float]:
    """Frames with 300 standards, then frames with one to three; and the zero-point of all."""
    parts, rng = [], np.random.default_rng(seed)
    for k in range(good + weak):
        o = made(1000 * seed + k, 300, 0.004, name=f"e{k}")
        model = o.model + ripple(o.x / 2000 - 1, o.y / 2000 - 1)
        if k >= good:
            model[rng.permutation(300)[rng.integers(1, 4) :]] = np.nan
        frames = dataclasses.replace(o.frames, night=np.array(["n1"]))
        parts.append(dataclasses.replace(o, model=model, frames=frames, star=o.star + 1000 * k))
    u, v = grid_places()
    truth = 3 + np.median(0.03 * u - 0.02 * u * v + 0.04 * v**2 + ripple(u, v))
    return calibrate(concatenate(parts), SETTINGS)[0].fits, float(truth)


@pytest.mark.slow
@pytest.mark.parametrize("good", [1, 2, 3, 5])
def test_errors_of_few_standards_hold_what_they_could_not_tell(good: int) -> None:
    pulls = []
    for seed in range(3):
        fits, truth = solved(good, 30, seed)
        lowered = (fits.status & np.uint32(FrameFlag.LOWERED)) > 0
        assert lowered[good:].all() == (good < 3)  # three frames that tell make a prior
        pulls.append((fits.zero_point[good:] - truth) / fits.zero_point_error[good:])
        assert (fits.floor[good:] > 0.9 * np.median(fits.floor[:good])).all()
    assert 0.7 < np.sqrt(np.mean(np.square(pulls))) < 1.2
    assert np.abs(pulls).max() < 4


@pytest.mark.slow
def test_frames_that_tell_everything_are_as_they_were() -> None:
    alone, _ = solved(2, 0, 0)
    beside, _ = solved(2, 5, 0)
    np.testing.assert_allclose(beside.covariance[:2], alone.covariance, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(beside.floor[:2], alone.floor, rtol=1e-9)
    single, _ = solved(0, 3, 0)  # nothing tells: the status says that terms were left out, the error is of the rest
    assert np.isfinite(single.zero_point_error).all()
    assert (single.status & np.uint32(FrameFlag.LOWERED)).all()


def test_a_term_that_many_standards_had_no_need_of_widens_little() -> None:
    """A slope of 5 mmag/mag, and an exposure of 300 standards without one, 3 mag away."""
    parts = [made(k, 300, 0.004, name=f"e{k}") for k in range(2)]
    for k, band in enumerate("gr"):
        parts[k] = dataclasses.replace(parts[k], frames=dataclasses.replace(parts[k].frames, band=np.array([band])))
    parts[1] = dataclasses.replace(parts[1], magnitude=parts[1].magnitude - 3, model=parts[1].model - 3)
    steep = dataclasses.replace(parts[0], model=parts[0].model + 0.005 * parts[0].magnitude)
    settings = dataclasses.replace(SETTINGS, model=dataclasses.replace(SETTINGS.model, magnitude_order="auto"))
    fits = calibrate(concatenate([steep, parts[1]]), settings)[0].fits
    slope = fits.terms.names.index("magnitude_1")
    assert fits.active[:, slope].tolist() == [True, False]
    alone = calibrate(parts[1], SETTINGS)[0].fits.zero_point_error[0]
    assert alone < fits.zero_point_error[1] < 1.5 * alone
