"""Frames that share values."""

import dataclasses

import numpy as np

from benchmarks.joint import Truth
from tests.survey.joint.helpers import N_EXPOSURE
from xpjax.survey.joint.blocks import frame_groups
from xpjax.survey.observations import Observations


def test_frames_that_share_values(field: tuple[Observations, Truth]) -> None:
    frames = dataclasses.replace(field[0].frames, night=np.array([f"n{k // 12}" for k in range(N_EXPOSURE)]))
    groups = frame_groups(frames, "night+band")
    assert groups.labels == ("n0 g", "n1 g")
    assert groups.keys["night"].tolist() == ["n0", "n1"]
    np.testing.assert_array_equal(groups.index, np.arange(N_EXPOSURE) // 12)
    assert frame_groups(frames, "all").labels == ("all",)
    assert len(frame_groups(frames, "frame").labels) == N_EXPOSURE
