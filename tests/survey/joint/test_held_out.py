"""Cross-validation with exposures and stars that are kept back."""

import dataclasses

import numpy as np
import pytest

from benchmarks.joint import Truth
from tests.survey.joint.helpers import MODEL, N_EXPOSURE
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.observations import Observations


def test_exposures_and_stars_kept_back(field: tuple[Observations, Truth]) -> None:
    o = field[0]
    frames = np.arange(N_EXPOSURE) % 6 == 5
    stars = o.star % 10 == 3
    found = solve_joint(o, MODEL, held_out_frames=frames, held_out_stars=stars)
    assert found.held_out is not None
    assert not found.used[frames[o.frame]].any()
    assert not found.used[stars].any()
    assert np.isnan(found.term("zero_point")[0][frames]).all()
    for mine in (frames[o.frame] & ~stars, stars & ~frames[o.frame]):
        pull = found.held_out.residual[mine] / found.held_out.error[mine]
        assert np.isfinite(pull).mean() > 0.85  # others are of stars that are seen too seldom
        assert 1.4826 * np.nanmedian(np.abs(pull)) == pytest.approx(1, abs=0.12)
    # A flat that is wrong shows on exposures kept back.
    flatless = dataclasses.replace(MODEL, terms=MODEL.terms[:2], constraints=MODEL.constraints[:2])
    other = solve_joint(o, flatless, held_out_frames=frames)
    assert other.held_out is not None
    pull = (other.held_out.residual / other.held_out.error)[frames[o.frame]]
    assert 1.4826 * np.nanmedian(np.abs(pull)) > 1.5
