"""From observations to magnitudes: simulated truth, degenerate frames through all stages."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.survey import minisitian
from tests.survey.exposures.helpers import DEGENERATE, SETTINGS, change, made
from xpjax.survey.exposures.apply import apply_calibration
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.model import ExposureModel
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.observations import FrameFlag
from xpjax.survey.report.evidence import evidence_of
from xpjax.survey.report.layout import write_page
from xpjax.survey.report.page import sections_of, summary_of


@pytest.mark.slow
def test_a_simulated_survey_is_recovered() -> None:
    """Small; `python -m benchmarks survey` has the figures of a large one."""
    found = minisitian(50, 700, 5, seed=4, bins=12)
    assert found.zero_point_scatter < 1.2 * found.zero_point_formal
    assert 0.7 < found.pull < 1.2
    assert found.structure < 0.35 * found.structure_before
    assert found.structure_before > 4
    assert found.repeatability_excess < 1.3


@pytest.mark.slow
def test_scatter_is_that_of_the_magnitudes_as_delivered() -> None:
    o = made(n=1500)
    o = dataclasses.replace(o, model=o.model + 0.03 * np.sin(o.x / 300) * np.cos(o.y / 400))
    bare, _ = calibrate(o, SETTINGS)
    solution, rows = calibrate(o, dataclasses.replace(SETTINGS, numerical_flat=True))
    residual = rows.residual[np.isfinite(rows.residual)]
    spread = 1.4826 * np.median(np.abs(residual - np.median(residual)))
    table = solution.catalogue().columns
    assert table["scatter"][0] == pytest.approx(spread, rel=1e-4)
    assert table["rms"][0] == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-9)
    assert table["scatter"][0] < 0.9 * bare.catalogue().columns["scatter"][0]
    assert table["error_floor"][0] == pytest.approx(bare.fits.floor[0], rel=1e-6)
    assert table["error_floor_after_flat"][0] == solution.local_floor[0] < table["error_floor"][0]
    assert "error_floor_after_flat" not in bare.catalogue().columns


ALONE = {
    **DEGENERATE,
    "all magnitudes missing": (lambda: change(made(), magnitude=np.nan), FrameFlag.NO_STANDARDS),
    "all places missing": (lambda: change(made(), x=np.nan), FrameFlag.NO_STANDARDS),
    "no rows": (lambda: made()[np.zeros(300, bool)], FrameFlag.NO_STANDARDS),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", ALONE)
def test_degenerate_frames_alone_are_named_through_all_stages(what: str, tmp_path: Path) -> None:
    bad, flag = ALONE[what]
    o = bad()
    solution, rows = calibrate(o, CalibrationSettings(ExposureModel(), numerical_flat=True, stacked_flat=True, bins=5))
    assert solution.fits.status[0] & np.uint32(flag)
    assert FrameFlag.describe(int(solution.fits.status[0])) in solution.catalogue().columns["quality"]
    refused = bool(solution.fits.status[0] & np.uint32(FrameFlag.NO_STANDARDS))
    assert np.isnan(rows.magnitude).all() == refused or not len(o)
    assert np.isfinite(apply_calibration(solution, o).magnitude).sum() == np.isfinite(rows.magnitude).sum()
    evidence = evidence_of(solution, rows.catalogue())
    assert write_page(tmp_path, what, summary_of(evidence), *sections_of(evidence)).path.is_file()


def test_no_frames_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="no measurements"):
        calibrate(made().on_frames(np.zeros(0, int)))
