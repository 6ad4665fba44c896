"""A survey in parts goes through the same steps as one in a piece, to the same calibration."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.survey.exposures.helpers import BOX, made
from xpjax.survey.exposures.calibrate import calibrate, calibrated_part, prepare
from xpjax.survey.exposures.flat import flat_rows, stack, stack_parts
from xpjax.survey.exposures.model import ExposureModel, extent, scaling, scaling_of
from xpjax.survey.exposures.results import FRAME_ARRAYS
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.exposures.solution import join_solutions
from xpjax.survey.exposures.steps import Part, steps
from xpjax.survey.observations import Observations, concatenate

SETTINGS = CalibrationSettings(
    ExposureModel(position_order=1, color_order=1), stacked_flat=True, bins=5, few=60, numerical_flat=True
)


def nights() -> Observations:
    """Twelve exposures of the same stars in two nights, in two bands, the last with few standards."""
    parts = []
    for k in range(12):
        o = made(7, 80, 0.004, name=f"e{k}")
        rng = np.random.default_rng(k)
        wrong = 0.01 * np.random.default_rng(99).normal(size=len(o))
        flat = 0.02 * np.sin(o.x / 300) * np.cos(o.y / 500)
        model = o.model + wrong + flat + rng.normal(size=len(o)) * 0.004 + 0.1 * k
        if k == 11:
            model[30:] = np.nan
        frames = dataclasses.replace(o.frames, night=np.array([f"n{k // 6}"]), band=np.array(["gr"[k % 2]]))
        parts.append(dataclasses.replace(o, frames=frames, model=model, model_error=np.full(len(o), 0.001)))
    return concatenate(parts)


@pytest.mark.slow
def test_parts_are_calibrated_as_the_whole() -> None:
    o = nights()
    whole, rows = calibrate(o, SETTINGS)
    assert (whole.fits.status & 128).any()  # leans on its night
    assert (whole.common_floor > 0).all()
    units = [np.flatnonzero((o.frames.night == n) & (o.frames.band == b)) for n in ("n0", "n1") for b in ("g", "r")]
    split = [o.on_frames(unit) for unit in units]
    place = np.concatenate(units)
    scale = scaling_of([extent(part).sorted() for part in split], o.frames[place], SETTINGS.model)
    parts, first = [], 0
    for part in split:
        own = dataclasses.replace(scale, box=scale.box[first : first + len(part.frames)])
        parts.append(Part(prepare(part, SETTINGS, own, 1), SETTINGS, first=first))
        first += len(part.frames)
    for step in steps(SETTINGS):
        told = step.reduce([step.share(part) for part in parts], SETTINGS)
        for part in parts:
            step.learn(part, told)
    done = [calibrated_part(part) for part in parts]
    found = join_solutions([solution for solution, _ in done], place, {})
    for name in FRAME_ARRAYS:
        np.testing.assert_allclose(getattr(found.fits, name), getattr(whole.fits, name), rtol=0, atol=1e-12)
    assert found.frames.exposure.tolist() == whole.frames.exposure.tolist()
    np.testing.assert_allclose(found.local_floor, whole.local_floor, rtol=0, atol=1e-12)
    assert found.standards.star.tolist() == whole.standards.star.tolist()
    for unit, (_, own) in zip(units, done, strict=True):
        mine = np.isin(o.frame, unit)
        np.testing.assert_allclose(own.magnitude, rows.magnitude[mine], rtol=0, atol=1e-12)
        np.testing.assert_allclose(own.systematic_error, rows.systematic_error[mine], rtol=0, atol=1e-12)


def test_scaled_coordinates_of_parts_are_those_of_the_whole(rng: np.random.Generator) -> None:
    o = nights()
    o = dataclasses.replace(o, color=rng.normal(size=len(o)), x=rng.uniform(-5, 3000, len(o)))
    parts = [o.on_frames(np.array(k)) for k in ([0, 3], [1], [2, *range(4, 12)])]
    order = np.array([0, 3, 1, 2, *range(4, 12)])
    for sizes in (None, BOX):
        want = scaling(o, SETTINGS.model, sizes)
        found = scaling_of([extent(part).sorted() for part in parts], o.frames[order], SETTINGS.model, sizes)
        assert (found.color_zero, found.magnitude_zero) == (want.color_zero, want.magnitude_zero)
        assert found.box.tolist() == want.box[order].tolist()


@pytest.mark.parametrize("often", [True, False])
def test_flats_of_parts_are_those_of_the_whole(rng: np.random.Generator, often: bool) -> None:
    o = nights()
    u, v = scaling(o, SETTINGS.model).places(o.frame, o.x, o.y)
    residual, variance = rng.normal(size=len(o)) * 0.01, rng.uniform(1, 4, len(o)) * 1e-4
    star = o.star if often else np.arange(len(o))
    options: dict[str, Any] = {"bins": 6, "smooth": 0.7}
    want = stack(o.frames, o.frame, star, u, v, residual, variance, **options)
    mine = [np.isin(o.frame, frames) for frames in ([0, 3], [1], [2, *range(4, 12)])]
    parts = [flat_rows(o.frames, o.frame[m], star[m], u[m], v[m], residual[m], variance[m]) for m in mine]
    found = stack_parts(parts, **options)
    np.testing.assert_allclose(found.value, want.value, rtol=0, atol=1e-14)
    assert found.count.tolist() == want.count.tolist()
    assert not np.allclose(stack_parts(parts[:2], **options).value, want.value, rtol=0, atol=1e-4)
