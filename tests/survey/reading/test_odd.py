"""What makes numbers wrong without a message from any fit: exchanged filters, wrong epochs, mixed times, rows twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from tests.survey.reading.helpers import BY_POSITION, COLUMNS, PLACED, config, data, pick, standards
from xpjax.core.errors import XpjaxError
from xpjax.survey import FrameFlag, RowFlag
from xpjax.survey.exposures import wide_table
from xpjax.survey.joint import solve_survey
from xpjax.survey.reading.calibration import apply_survey, calibrate_survey
from xpjax.survey.reading.check import check_survey
from xpjax.survey.reading.filters import color_slopes

N = 120
LONG = {**COLUMNS, "band": "BAND", "exposure": "EXP"}


def field(exposures: dict[str, str], *, filters: dict[str, str] | None = None, seed: int = 0) -> dict[str, Any]:
    """Exposures by name in the bands that they say; filters: those that they were really taken through."""
    rng = np.random.default_rng(seed)
    color, g = rng.uniform(0.3, 1.8, N), rng.uniform(14, 18, N)
    star = {"g": g, "r": g - 0.6 * color, "i": g - 0.9 * color, "z": g - 0.93 * color + 0.03 * color**2}
    parts = []
    for name, band in exposures.items():
        true = star[(filters or {}).get(name, band)]
        parts.append({
            "source_id": data(N)["source_id"], "COL": color, "MOD": star[band], "ERR": np.full(N, 0.01),
            "MAG": true - 25 + rng.normal(0, 0.01, N), "BAND": np.full(N, band), "EXP": np.full(N, name),
        })  # fmt: skip
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def warned(table: dict[str, Any], columns: dict[str, Any] = LONG, **sections: Any) -> str:
    return "\n".join(check_survey({"all": table}, config(columns, **sections)).warnings)


EXPOSURES = {"a1": "g", "a2": "r", "a3": "i", "b1": "g", "b2": "r", "b3": "i"}
NONE = {"color_order": 0, "magnitude_order": 0}


def test_sound_exposures_warn_of_nothing() -> None:
    assert "passband" not in warned(field(EXPOSURES), model=NONE)
    assert "twice" not in warned(field(EXPOSURES), model=NONE)


def test_exchanged_filters_are_told_with_the_band_that_they_are_of() -> None:
    said = warned(field(EXPOSURES, filters={"a1": "r", "b1": "r", "a2": "g", "b2": "g"}), model=NONE)
    assert "band g: model less magnitude changes by +0.6" in said
    assert "magnitudes agree better with band r" in said
    assert "band r: model less magnitude changes by -0.6" in said
    assert "band i" not in said


def test_one_exposure_through_another_filter_is_named() -> None:
    said = warned(field(EXPOSURES, filters={"b1": "i"}), model=NONE)
    assert "b1 g: model less magnitude changes by +0.9" in said
    assert "agree better with band i" in said
    assert "a1" not in said


def test_filters_of_like_slopes_are_told_by_their_scatter() -> None:
    said = warned(field({"a": "i", "b": "z"}, filters={"a": "z", "b": "i"}), model=NONE)
    assert "changes by" not in said
    assert "band i: magnitudes agree better with band z" in said


@pytest.mark.parametrize(
    ("one", "other"), [("F378", "F395"), pytest.param("F861", "Z", marks=pytest.mark.slow), ("R", "F660")]
)  # fmt: skip
def test_exchanged_bands_of_the_real_field(shared: Callable[[str], Path], one: str, other: str) -> None:
    table = Table.read(shared("splus/stripe82_0001_400.fits"))
    columns = {
        "star": "source_id", "magnitude": "SPLUS_{band}", "magnitude_error": "SPLUS_{band}_err",
        "model": "SPLUS_{band}_mod", "color": ["SPLUS_G_mod", "SPLUS_I_mod"], "bands": [one, other],
    }  # fmt: skip
    chosen = config(columns, selection={"cuts": ["magnitude_error"], "limits": {"magnitude_error": 0.05}})
    assert not any("passband" in said for said in check_survey({"e": table}, chosen).warnings)
    for name in ("SPLUS_{}", "SPLUS_{}_err"):
        a, b = name.format(one), name.format(other)
        table[a], table[b] = table[b].copy(), table[a].copy()
    said = check_survey({"e": table}, chosen).warnings
    pairs = ((one, other), (other, one))
    assert any(f"band {a}: magnitudes agree better with band {b}" in line for a, b in pairs for line in said)


@pytest.mark.slow
def test_a_calibration_tells_it_and_flags_the_zero_points() -> None:
    table = field(EXPOSURES, filters={"b1": "i"})
    found = calibrate_survey({"all": table}, config(LONG, model={"color_order": 1, "magnitude_order": 0}))
    assert any(line.startswith("WARNING: b1 g: model less magnitude") for line in found.lines())
    status = dict(zip(found.fits.status.tolist(), found.calibrated.observations.frames.exposure.tolist(), strict=False))
    flagged = [name for bits, name in status.items() if bits & 1 << 15]
    assert flagged == ["b1"]
    assert any("STEEP_COLOR" in line for line in found.lines())


@pytest.mark.slow
def test_a_new_exposure_through_another_filter_is_told() -> None:
    chosen = config(LONG, model={"color_order": 1, "magnitude_order": 0})
    solution = calibrate_survey({"all": field(EXPOSURES)}, chosen).solution
    table = field({"c1": "g", "c2": "r"}, filters={"c1": "r"}, seed=1)
    found = apply_survey({"all": table}, solution, config=chosen, new=True)
    told = [line for line in found.lines() if "model less magnitude" in line]
    assert len(told) == 1
    assert told[0].startswith("WARNING: ")
    assert "c1" in told[0] or "band g" in told[0]
    steep = (found.fits.status & np.uint32(FrameFlag.STEEP_COLOR)) > 0
    assert found.calibrated.observations.frames.exposure[steep].tolist() == ["c1"]
    assert ((found.fits.status & np.uint32(FrameFlag.FROZEN)) > 0).all()


def test_slopes_are_robust_and_absent_where_stars_are_few() -> None:
    rng = np.random.default_rng(0)
    color = rng.uniform(0, 1, 300)
    group = np.repeat([0, 1, 2], [200, 95, 5])
    y = np.where(group == 0, 0.3, -0.1) * color + rng.normal(0, 0.01, 300)
    y[::10] += 3.0
    slope, error = color_slopes(y, color, group, 3)
    assert slope[:2] == pytest.approx([0.3, -0.1], abs=0.015)
    assert (np.abs(slope[:2] - [0.3, -0.1]) < 5 * error[:2]).all()
    assert np.isnan(slope[2])


@pytest.mark.parametrize("epoch", [2032.0, 2003.0, 2020.5])
def test_a_wrong_epoch_is_told_with_the_one_that_mends_it(tmp_path: Path, epoch: float) -> None:
    """Detections of J2020.5, and stars that move by hundreds of mas a year."""
    stars, rng = data(N), np.random.default_rng(0)
    motion = rng.normal(0, 80, (2, N))
    names = {name: stars[name] for name in ("source_id", "RA", "DEC")}
    standards(tmp_path, {**names, "pmra": motion[0], "pmdec": motion[1]})
    moved = 4.5 * motion / 3.6e6
    table = {**stars, "RA": stars["RA"] + moved[0] / np.cos(np.radians(2.0)), "DEC": stars["DEC"] + moved[1]}
    section = {**BY_POSITION, "pm_ra": "pmra", "pm_dec": "pmdec", "epoch": epoch, "radius": 5.0}
    chosen = {"standards": section, "folder": tmp_path, "model": {"color_order": 0}}
    said = warned({**table, "T": np.full(N, 59031.0)}, {**PLACED, "time": "T"}, **chosen)
    far = abs(epoch - 2020.5) > 1
    assert ("and the exposures are of J2020.5" in said) == far
    assert ("[standards] epoch = 2020.5 mends it" in said) == far


def test_an_epoch_that_is_no_year_is_refused() -> None:
    with pytest.raises(XpjaxError, match=r"epoch = 59031: expected a year"):
        config(PLACED, standards={**BY_POSITION, "pm_ra": "a", "pm_dec": "b", "epoch": 59031.0})


def test_times_of_two_kinds_are_told() -> None:
    table = field(EXPOSURES)
    time = np.where(table["EXP"] == "a2", 2_460_001.5, 60_001.0)
    said = warned({**table, "T": time}, {**LONG, "time": "T"}, model=NONE)
    assert "times are modified Julian days (5 frames: a1 g, a3 i and 3 more) and Julian days (1: a2 r)" in said


def test_the_same_rows_twice_are_told() -> None:
    table = field(EXPOSURES)
    again = table["EXP"] == "b2"
    copy = {name: np.concatenate([values, values[again]]) for name, values in table.items()}
    copy["EXP"] = np.where(np.arange(len(copy["EXP"])) < len(again), copy["EXP"], "copy")
    said = warned(copy, model=NONE)
    assert f"the same rows come twice, in b2 r and copy r ({N} rows)" in said


def doubled(table: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.concatenate([values, values[rows]]) for name, values in table.items()}


def test_a_measurement_that_comes_twice_counts_once() -> None:
    table = field({"a1": "g", "a2": "g"})
    copy = {name: values[:N] for name, values in table.items()}
    once = calibrate_survey({"all": table}, config(LONG, model=NONE))
    for sources in ({"all": doubled(table, slice(N))}, {"all": table, "copy": copy}):
        found = calibrate_survey(sources, config(LONG, model=NONE))
        np.testing.assert_array_equal(found.fits.zero_point_error, once.fits.zero_point_error)
        np.testing.assert_array_equal(found.fits.n_standard, [N, N])
        for lines in (found.lines(), check_survey(sources, config(LONG, model=NONE)).lines()):
            said = (
                f"WARNING: {N} rows come again on the same frame, to the last digit, in a1 g: each measurement counts"
            )
            assert any(line.startswith(said) for line in lines)
        wide = wide_table(found.calibrated)
        np.testing.assert_array_equal(wide.columns["n_g"], wide_table(once.calibrated).columns["n_g"])
    moved = {**copy, "MAG": copy["MAG"] + 1e-6}
    apart = calibrate_survey({"all": table, "copy": moved}, config(LONG, model=NONE))
    np.testing.assert_array_equal(apart.fits.n_standard, [2 * N, N])  # other measurements are none of these


def test_rows_that_come_twice_are_matched_and_no_neighbors(tmp_path: Path) -> None:
    stars = data(40)
    standards(tmp_path, pick(stars, "RA", "DEC", "MOD", "COL", "source_id"))
    columns = {**PLACED, "color": "COL"}
    chosen = config(
        columns, tmp_path, standards={**BY_POSITION, "id": "source_id"}, selection={"cuts": ["neighbors"]}, model=NONE
    )
    mine = pick(stars, "RA", "DEC", "MAG", "ERR")
    found = calibrate_survey({"e1": doubled(mine, slice(None))}, chosen)
    once = calibrate_survey({"e1": mine}, chosen)
    assert found.fits.n_standard[0] == once.fits.n_standard[0] == 40
    np.testing.assert_array_equal(found.fits.zero_point_error, once.fits.zero_point_error)
    flags = found.calibrated.observations.excluded & np.uint32(RowFlag.DUPLICATE)
    assert (flags > 0).tolist() == [False] * 40 + [True] * 40


@pytest.mark.slow
def test_a_joint_solution_counts_a_measurement_once() -> None:
    chosen = {
        "columns": {**LONG, "model_error": 0.005}, "joint": {"star_prior": True}, "term": [{"kind": "zero_point"}],
    }  # fmt: skip
    table = field({"a1": "g", "a2": "g"})
    found, reading = solve_survey(chosen, [doubled(table, slice(N))])
    once, _ = solve_survey(chosen, [table])
    assert any(f"{N} rows come again on the same frame" in line for line in reading.account.lines())
    np.testing.assert_allclose(found.value, once.value, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.covariance(), once.covariance(), rtol=1e-9, atol=1e-15)


def test_a_detector_that_counts_exposures_is_told() -> None:
    said = warned(field(EXPOSURES), {**LONG, "detector": "EXP"}, model=NONE)
    assert "each of the 6 exposures has a detector of its own (a1, a2, a3 and 3 more)" in said
    assert "detector of its own" not in warned(field(EXPOSURES), {**LONG, "detector": "BAND"}, model=NONE)


@pytest.mark.slow
def test_a_joint_solution_tells_it() -> None:
    sections = {"joint": {"star_prior": True}, "term": [{"kind": "zero_point"}]}
    table = field(EXPOSURES, filters={"b1": "i"})
    _, reading = solve_survey({"columns": {**LONG, "model_error": 0.005}, **sections}, [table])
    assert any(line.startswith("WARNING: b1 g: model less magnitude") for line in reading.account.lines())
    _, reading = solve_survey({"columns": {**LONG, "model_error": 0.005}, **sections}, [field(EXPOSURES)])
    assert not any(line.startswith("WARNING") for line in reading.account.lines())
