"""Exposures beside the others of their night."""

import dataclasses

import numpy as np
import pytest

from tests.survey.exposures.helpers import SETTINGS, nights
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.observations import FrameFlag, RowFlag


@pytest.mark.slow
def test_few_standards_lean_on_their_night() -> None:
    o = nights([300, 300, 300, 300, 6])
    solution, rows = calibrate(o, SETTINGS)
    assert solution.fits.status[4] & FrameFlag.NIGHT_PRIOR
    alone, _ = calibrate(o.on_frames([4]), SETTINGS)
    assert alone.fits.status[0] & FrameFlag.LOWERED
    truth = solution.fits.value[:4].mean(axis=0)
    off = [np.abs(fits.value[k, 1:] - truth[1:]).max() for fits, k in ((solution.fits, 4), (alone.fits, 0))]
    assert off[0] < 0.01 < off[1]
    assert (rows.flags[o.frame == 4] & np.uint32(RowFlag.EXPOSURE_FLAGGED)).all()


@pytest.mark.slow
def test_no_standards_fall_back_on_the_night_at_their_airmass() -> None:
    o = nights([300, 300, 300, 300, 300, 300, 0], airmass=0.1)
    solution, rows = calibrate(o, SETTINGS)
    status = int(solution.fits.status[6])
    assert status & FrameFlag.NIGHT_FALLBACK
    assert solution.fits.zero_point[6] == pytest.approx(solution.fits.zero_point[0] - 0.12, abs=0.01)
    assert np.isfinite(rows.magnitude[o.frame == 6]).all()
    lost, rows = calibrate(o.on_frames([6]), SETTINGS)
    assert np.isnan(lost.fits.zero_point[0])
    assert np.isnan(rows.magnitude).all()
    assert (rows.flags & np.uint32(RowFlag.EXPOSURE_REFUSED)).all()


def test_clouds_and_drifts_are_flagged() -> None:
    o = nights([300] * 8)
    shift = np.where(o.frame == 2, -0.5, np.where(o.frame == 5, 0.3, 0.0))
    solution, _ = calibrate(dataclasses.replace(o, model=o.model + shift), SETTINGS)
    assert [FrameFlag.describe(int(s)) for s in solution.fits.status] == [
        "OK", "OK", "CLOUD", "OK", "OK", "DRIFT", "OK", "OK",
    ]  # fmt: skip
