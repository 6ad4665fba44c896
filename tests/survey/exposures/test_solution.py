"""Calibration from observations to magnitudes: simulated truth, nights, application, files, the real field."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.survey import PUBLISHED, minisitian, real_field
from tests.survey.exposures.test_zeropoint import BOX, DEGENERATE, PLAIN, change, made
from xpjax.survey.exposures.files import VERSION, read_solution, write_solution
from xpjax.survey.exposures.held_out import cross_validate
from xpjax.survey.exposures.levels import grid_places
from xpjax.survey.exposures.model import ExposureModel
from xpjax.survey.exposures.solution import (
    CalibrationSettings,
    apply_calibration,
    apply_calibration_with_fits,
    calibrate,
)
from xpjax.survey.noise import CCD, Camera, scintillation_osborn, scintillation_young
from xpjax.survey.observations import FrameFlag, Observations, RowFlag, concatenate
from xpjax.survey.report import figures
from xpjax.survey.report.statistics import gather_evidence
from xpjax.survey.simulate import Setup, Survey

SETTINGS = CalibrationSettings(PLAIN, size=BOX)


def nights(counts: list[int], airmass: float = 0.0) -> Observations:
    """Exposures of one night with so many stars each."""
    parts = []
    for k, n in enumerate(counts):
        part = made(k, max(n, 1), 0.005, name=f"e{k}")
        if n == 0:
            part = dataclasses.replace(part, model=part.model * np.nan)
        night = np.full(1, "n1")
        parts.append(
            dataclasses.replace(
                part, frames=dataclasses.replace(part.frames, night=night, airmass=np.array([1.0 + airmass * k])),
                star=part.star + 1000 * k, model=part.model - 0.2 * airmass * k,
            )
        )  # fmt: skip
    return concatenate(parts)


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
def test_pulls_of_stars_kept_back() -> None:
    o = concatenate([made(k, name=f"e{k}", noise=0.006) for k in range(4)])
    held = cross_validate(o, SETTINGS, folds=5)
    assert np.std(held.residual / held.error) == pytest.approx(1, abs=0.1)
    assert held.number.tolist() == [300] * 4
    # Fitted stars scatter less than stars kept back, or nothing was kept back.
    _, rows = calibrate(o, SETTINGS)
    assert np.std(rows.residual) < np.std(held.residual)


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


@pytest.mark.parametrize("settings", [SETTINGS, dataclasses.replace(SETTINGS, numerical_flat=True, stacked_flat=True)])
def test_files_and_application_give_the_same_magnitudes(settings: CalibrationSettings, tmp_path: Path) -> None:
    o = nights([300] * 6)
    solution, rows = calibrate(o, settings)
    write_solution(tmp_path / "solution.h5", solution)
    again = read_solution(tmp_path)
    assert again.settings == solution.settings
    assert dict(again.record) == dict(solution.record)
    applied = apply_calibration(again, o)
    for name in ("magnitude", "magnitude_error", "systematic_error", "residual"):
        np.testing.assert_allclose(getattr(applied, name), getattr(rows, name), rtol=1e-12, atol=1e-15)
    with pytest.raises(FileExistsError, match="exists"):
        write_solution(tmp_path / "solution.h5", solution)
    (tmp_path / "other.h5").write_bytes(b"no")
    with pytest.raises(ValueError, match="no solution of a survey"):
        read_solution(tmp_path / "other.h5")


def test_stars_that_took_no_part_and_new_exposures() -> None:
    o = nights([300] * 7)
    solution, _ = calibrate(o.on_frames(np.arange(6)), SETTINGS)
    others = made(77, 300, 0.005, name="e2")
    rows = apply_calibration(solution, others)
    assert np.std(rows.residual / np.hypot(rows.magnitude_error, rows.systematic_error)) == pytest.approx(1, abs=0.15)
    new = o.on_frames([6])
    moved = dataclasses.replace(new, model=new.model + 0.7)
    rows, fits = apply_calibration_with_fits(solution, moved)
    assert fits.status[0] & FrameFlag.FROZEN
    assert fits.zero_point[0] == pytest.approx(solution.fits.zero_point.mean() + 0.7, abs=0.002)
    assert abs(np.median(rows.residual)) < 1e-3
    blind = dataclasses.replace(new, model=new.model * np.nan)
    rows, fits = apply_calibration_with_fits(solution, blind)
    assert fits.status[0] & FrameFlag.NIGHT_FALLBACK
    assert np.isfinite(rows.magnitude).all()
    strange = dataclasses.replace(new, frames=dataclasses.replace(new.frames, band=np.array(["q"])))
    with pytest.raises(ValueError, match="no frame of band 'q'"):
        apply_calibration(solution, strange)


@pytest.mark.slow
def test_held_out_stars_of_the_real_field(shared: Callable[[str], Path]) -> None:
    shared("splus/stripe82_0001_400.fits")
    field = real_field(tuple(PUBLISHED))
    held = cross_validate(field, CalibrationSettings(numerical_flat=True), folds=5)
    for k, band in enumerate(field.frames.band):
        assert 1e3 * held.scatter[k] < PUBLISHED[band]
        assert held.rms[k] > 0.2  # bad matches are still among them
    pull = np.abs(held.residual / held.error)
    assert 1.4826 * np.nanmedian(pull) == pytest.approx(1, abs=0.1)


def test_noise_laws_at_published_values() -> None:
    """Young's law at 1 m, 1 s, sea level, zenith: 0.09 100^-2/3 / sqrt 2; Osborn's at C_Y = 1.5."""
    assert scintillation_young(1.0, 1.0, 1.0, 0.0) == pytest.approx(0.0029539, rel=1e-4)
    assert scintillation_osborn(1.0, 1.0, 1.0, 0.0) == pytest.approx(1.5 * np.sqrt(1e-5), rel=1e-12)
    assert scintillation_osborn(1.0, 4.0, 2.0, 8000.0) == pytest.approx(1.5 * np.sqrt(1e-5 / 4 * 8) / np.e, rel=1e-12)
    parts = Camera().noise(np.array([13.0, 16.0]))
    square = sum(parts[name] ** 2 for name in ("photon", "sky", "read", "scintillation"))
    np.testing.assert_allclose(parts["total"], np.sqrt(square))
    assert 0.001 < parts["total"][0] < 0.005
    assert CCD.noise(np.array([16.0]))["total"][0] > 0


def test_simulated_exposures_are_the_same_however_asked() -> None:
    survey = Survey(Setup(n_exposure=4, n_star=100, n_night=2))
    whole, truth = survey.observe()
    part, _ = survey.observe([2])
    mine = whole.frame == 2
    np.testing.assert_array_equal(part.magnitude, whole.magnitude[mine])
    good = ~truth.disturbed
    off = (whole.magnitude + truth.correction - truth.magnitude)[good] / truth.error[good]
    assert off.std() == pytest.approx(1, abs=0.15)
    with pytest.raises(ValueError, match="needs exposures"):
        Survey(Setup(n_exposure=0))


@pytest.mark.parametrize(
    ("entry", "value"), [("neighbors", 2), ("bins", 1), ("interpolation", 2), ("smooth", -1.0), ("epoch", "weekly")]
)
def test_settings_that_cannot_be(entry: str, value: object) -> None:
    with pytest.raises(ValueError, match=entry):
        CalibrationSettings(**{entry: value})  # type: ignore[arg-type]


def detectors(seed: int, name: str) -> Observations:
    """One exposure of two detectors, the second 0.4 mag and a tilt apart."""
    parts = []
    for k in range(2):
        o = made(seed + 50 * k, name=name)
        u = o.x / 2000 - 1
        frames = dataclasses.replace(o.frames, detector=np.array([f"ccd{k}"]), night=np.array(["n1"]))
        parts.append(
            dataclasses.replace(
                o, frames=frames, model=o.model + k * (0.4 + 0.1 * u + 0.2 * u**2), star=o.star + 1000 * k
            )
        )
    return concatenate(parts)


@pytest.mark.slow
def test_several_detectors_and_their_new_exposures() -> None:
    o = concatenate([detectors(k, f"e{k}") for k in range(5)])
    solution, _ = calibrate(o.on_frames(np.arange(8)), dataclasses.replace(SETTINGS, stacked_flat=True, bins=4))
    assert solution.flats is not None
    assert solution.flats.labels[:, 1].tolist() == ["ccd0", "ccd1"]
    level = 0.4 + np.median(0.1 * grid_places()[0] + 0.2 * grid_places()[0] ** 2)
    np.testing.assert_allclose(np.diff(solution.fits.zero_point)[::2], level, atol=0.02)
    assert "detector" in solution.zero_points().columns
    new = o.on_frames([8, 9])
    rows, fits = apply_calibration_with_fits(solution, new)
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


ALONE = {
    **DEGENERATE,
    "all magnitudes missing": (lambda: change(made(), magnitude=np.nan), FrameFlag.NO_STANDARDS),
    "all places missing": (lambda: change(made(), x=np.nan), FrameFlag.NO_STANDARDS),
    "no rows": (lambda: made()[np.zeros(300, bool)], FrameFlag.NO_STANDARDS),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", ALONE)
def test_degenerate_frames_alone_are_named_through_all_stages(what: str) -> None:
    bad, flag = ALONE[what]
    o = bad()
    solution, rows = calibrate(o, CalibrationSettings(ExposureModel(), numerical_flat=True, stacked_flat=True, bins=5))
    assert solution.fits.status[0] & np.uint32(flag)
    assert FrameFlag.describe(int(solution.fits.status[0])) in solution.zero_points().columns["quality"]
    refused = bool(solution.fits.status[0] & np.uint32(FrameFlag.NO_STANDARDS))
    assert np.isnan(rows.magnitude).all() == refused or not len(o)
    assert np.isfinite(apply_calibration(solution, o).magnitude).sum() == np.isfinite(rows.magnitude).sum()
    evidence = gather_evidence(solution, rows.catalogue(), solution.zero_points())
    assert len(figures.page(what, evidence, figures.sections(evidence))) > 1000


def test_no_frames_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="no measurements"):
        calibrate(made().on_frames(np.zeros(0, int)))


def test_the_format_of_solutions() -> None:
    assert VERSION == 1
