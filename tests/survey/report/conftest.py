"""A calibration of two bands, with what a report may know beside it."""

import dataclasses

import numpy as np
import pytest

from tests.survey.exposures.helpers import SETTINGS, nights
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.cross_validation import cross_validate
from xpjax.survey.noise import Camera
from xpjax.survey.observations import Observations, concatenate
from xpjax.survey.report.evidence import Evidence, evidence_of, with_frames

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


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    o = two_bands()
    solution, rows = calibrate(o, dataclasses.replace(SETTINGS, numerical_flat=True))
    found = evidence_of(solution, rows.catalogue())
    rng = np.random.default_rng(0)
    n = len(o.frames)
    shared = np.tile(rng.normal(size=N_FRAME), 2)
    difference = 0.003 * shared * np.repeat([1.0, -2.0], N_FRAME) + 0.0003 * rng.normal(size=n)
    tiles = {"ra": rng.uniform(0, 5, n), "dec": rng.uniform(0, 5, n), "ebv": shared, "rv": 3.1 + 0.1 * shared}
    return dataclasses.replace(found, differences={"truth": difference}, tiles=tiles, camera=Camera())


@pytest.fixture(scope="session")
def tested(evidence: Evidence) -> Evidence:
    """The same with cross-validation."""
    o = two_bands()
    settings = dataclasses.replace(SETTINGS, numerical_flat=True)
    held = cross_validate(o, settings, folds=2, calibrated=calibrate(o, settings)[1])
    return dataclasses.replace(evidence, cross_validation=with_frames(evidence.solution, held.catalogue()))
