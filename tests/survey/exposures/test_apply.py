"""Other stars of the exposures of a solution, and new exposures."""

import dataclasses

import numpy as np
import pytest

from tests.survey.exposures.helpers import SETTINGS, detectors, made, nights
from xpjax.survey.exposures.apply import apply_calibration
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.levels import grid_places
from xpjax.survey.observations import FrameFlag, concatenate


def test_stars_that_took_no_part_and_new_exposures() -> None:
    o = nights([300] * 7)
    solution, _ = calibrate(o.on_frames(np.arange(6)), SETTINGS)
    others = made(77, 300, 0.005, name="e2")
    rows = apply_calibration(solution, others)
    assert np.std(rows.residual / np.hypot(rows.magnitude_error, rows.systematic_error)) == pytest.approx(1, abs=0.15)
    new = o.on_frames([6])
    moved = dataclasses.replace(new, model=new.model + 0.7)
    rows = apply_calibration(solution, moved)
    fits = rows.fits
    assert fits is not None
    assert fits.status[0] & FrameFlag.FROZEN
    assert fits.zero_point[0] == pytest.approx(solution.fits.zero_point.mean() + 0.7, abs=0.002)
    assert abs(np.median(rows.residual)) < 1e-3
    blind = dataclasses.replace(new, model=new.model * np.nan)
    rows = apply_calibration(solution, blind)
    fits = rows.fits
    assert fits is not None
    assert fits.status[0] & FrameFlag.NIGHT_FALLBACK
    assert np.isfinite(rows.magnitude).all()
    strange = dataclasses.replace(new, frames=dataclasses.replace(new.frames, band=np.array(["q"])))
    with pytest.raises(ValueError, match="no frame of band 'q'"):
        apply_calibration(solution, strange)


@pytest.mark.slow
def test_several_detectors_and_their_new_exposures() -> None:
    o = concatenate([detectors(k, f"e{k}") for k in range(5)])
    solution, _ = calibrate(o.on_frames(np.arange(8)), dataclasses.replace(SETTINGS, stacked_flat=True, bins=4))
    assert solution.flats is not None
    assert solution.flats.labels[:, 1].tolist() == ["ccd0", "ccd1"]
    level = 0.4 + np.median(0.1 * grid_places()[0] + 0.2 * grid_places()[0] ** 2)
    np.testing.assert_allclose(np.diff(solution.fits.zero_point)[::2], level, atol=0.02)
    assert "detector" in solution.catalogue().columns
    new = o.on_frames([8, 9])
    rows = apply_calibration(solution, new)
    fits = rows.fits
    assert fits is not None
    assert all(status & FrameFlag.FROZEN for status in fits.status)
    # Zero-points are medians over the detector, flat and tilt included, as those of frames that are fitted.
    np.testing.assert_allclose(fits.zero_point, calibrate(new, SETTINGS)[0].fits.zero_point, atol=0.004)
    assert np.diff(fits.zero_point)[0] == pytest.approx(level, abs=0.02)
    pull = rows.residual / np.hypot(rows.magnitude_error, rows.systematic_error)
    for k in range(2):
        assert np.std(pull[new.frame == k]) == pytest.approx(1, abs=0.15)
    swapped = dataclasses.replace(new, frames=dataclasses.replace(new.frames, detector=new.frames.detector[::-1]))
    assert np.std(apply_calibration(solution, swapped).residual) > 3 * np.std(rows.residual)  # the other's tilt
    strange = dataclasses.replace(new, frames=dataclasses.replace(new.frames, detector=np.array(["ccd7", "ccd1"])))
    with pytest.raises(ValueError, match="detector 'ccd7'"):
        apply_calibration(solution, strange)


def test_a_part_of_a_solution_calibrates_its_own_frames() -> None:
    o = nights([60, 50, 40])
    solution, rows = calibrate(o, dataclasses.replace(SETTINGS, numerical_flat=True))
    part = solution[[2, 0]]
    assert len(part) == len(part.to_table()) == 2
    assert len(repr(part).splitlines()) < 15
    assert part.frames.exposure.tolist() == ["e2", "e0"]
    for k in (0, 2):
        one = o.on_frames([k])
        found = apply_calibration(part, one)
        np.testing.assert_allclose(found.magnitude, rows.magnitude[o.frame == k], rtol=0, atol=1e-12)
    assert apply_calibration(part, o.on_frames([1])).fits.status[0] & FrameFlag.FROZEN
