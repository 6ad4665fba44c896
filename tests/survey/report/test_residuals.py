"""Residuals against everything that varies, held out beside fitted."""

import dataclasses
import json

import numpy as np
import pytest

from tests.survey.exposures.helpers import PLAIN
from tests.survey.report.conftest import N_FRAME
from xpjax.survey.report.drawing import on_map, sky_middle
from xpjax.survey.report.evidence import Evidence, places_of_frames, total_error
from xpjax.survey.report.residuals import (
    budget_figures,
    budget_table,
    pull_figures,
    residual_figures,
    sky_figures,
)
from xpjax.survey.report.statistics import Missing, spread


def named(evidence: Evidence, color: object) -> Evidence:
    """The same with a configuration that names the color."""
    record = {"config": json.dumps({"columns": {"color": color}})}
    return dataclasses.replace(evidence, solution=dataclasses.replace(evidence.solution, record=record))


def test_panels_show_what_varies_by_its_name(tested: Evidence) -> None:
    figures, missing = residual_figures(named(tested, ["{band}_mod", "standards.I_mod"]))
    assert [figure.name for figure in figures] == ["Residuals of band g", "Residuals of band r"]
    assert not missing
    panels = figures[0].make().axes
    assert [axes.get_xlabel() for axes in panels] == [
        "calibrated magnitude [mag]", "g_mod - I_mod [mag]", "x [pixel]", "y [pixel]", "airmass", "time - 60000 [d]",
    ]  # fmt: skip
    n = np.count_nonzero(tested.of_band("g") & np.isfinite(tested.held_out[0]))
    assert f"{n:,} measurements of" in figures[0].caption
    for axes in panels:
        assert axes.containers or axes.collections
    fitted, held = (line.get_ydata() for line in panels[0].lines[:2])
    assert not np.allclose(fitted, held)


def test_panels_with_nothing_to_show_are_named(evidence: Evidence) -> None:
    frames = dataclasses.replace(evidence.solution.frames, airmass=np.full(2 * N_FRAME, np.nan))
    settings = dataclasses.replace(evidence.solution.settings, model=dataclasses.replace(PLAIN, amplifiers=True))
    rows = {**evidence.rows, "color": 0 * evidence.rows["color"], "x": np.full(len(evidence.rows["x"]), 7.0)}
    solution = dataclasses.replace(evidence.solution, frames=frames, settings=settings)
    bare = dataclasses.replace(evidence, rows=rows, solution=solution)
    figures, missing = residual_figures(bare)
    assert missing == {
        "Residuals against color": "colors are not known (columns.color)",
        "Residuals against x": "one value in all measurements",
        "Residuals against airmass": "airmasses are not known (columns.airmass)",
        "Residuals against amplifier": "amplifiers are not among the products (catalogues=)",
    }
    assert "the stars took part in the fit" in figures[0].caption
    assert len(figures[0].make().axes) == 3
    without = dataclasses.replace(evidence, rows={**rows, "residual": np.nan * rows["residual"]})
    with pytest.raises(Missing, match="no models of standards"):
        residual_figures(without)


def test_kinds_have_names(evidence: Evidence) -> None:
    detector = np.where(np.arange(2 * N_FRAME) % 2, "north", "south")
    frames = dataclasses.replace(evidence.solution.frames, detector=detector)
    rows = {**evidence.rows, "amplifier": np.arange(len(evidence.rows["x"])) % 4}
    solution = dataclasses.replace(evidence.solution, frames=frames, record={"amplifiers": json.dumps([*"ABCD"])})
    figures, _ = residual_figures(dataclasses.replace(evidence, rows=rows, solution=solution))
    detectors, amplifiers = figures[0].make().axes[-2:]
    assert [t.get_text() for t in detectors.get_xticklabels()] == ["north", "south"]
    assert [t.get_text() for t in amplifiers.get_xticklabels()] == [*"ABCD"]
    north = (detector[rows["frame"]] == "north") & evidence.of_band("g")
    assert detectors.lines[0].get_ydata()[0] == pytest.approx(1e3 * np.nanmedian(evidence.fitted[north]))


def test_the_color_has_its_own_name(evidence: Evidence) -> None:
    assert evidence.color_name("g") == "color"
    assert named(evidence, "bp_rp").color_name("g") == "BP - RP"
    record = {"config": json.dumps({"columns": {}, "standards": {"spectra": "xp.parquet"}})}
    spectra = dataclasses.replace(evidence, solution=dataclasses.replace(evidence.solution, record=record))
    assert spectra.color_name("g") == "BP - RP"
    record = {"config": json.dumps({"band": [{"name": "r", "color": ["a", "b"]}], "columns": {"color": "c"}})}
    own = dataclasses.replace(evidence, solution=dataclasses.replace(evidence.solution, record=record))
    assert (own.color_name("r"), own.color_name("g")) == ("a - b", "c")


def test_held_out_residuals_are_those_of_cross_validation(tested: Evidence) -> None:
    table = tested.cross_validation
    assert table is not None
    value, error = tested.held_out
    assert np.isfinite(value).sum() == len(table["residual"])
    for k in (0, 100, 1000):
        mine = (tested.rows["frame"] == table["frame"][k]) & (tested.rows["star"] == table["star"][k])
        assert value[mine] == table["residual"][k]
        assert error[mine] == table["error"][k]
    assert not np.array_equal(tested.judged, tested.fitted)


def test_budgets_add_up(tested: Evidence) -> None:
    table = budget_table(tested)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    mine = tested.of_band("g")
    assert float(row["total"]) == pytest.approx(1e3 * np.median(total_error(tested.rows, model=True)[mine]), rel=0.05)
    assert float(row["held out"]) == pytest.approx(1e3 * spread(tested.held_out[0][mine])[0], abs=0.06)
    assert row["models of standards"] == "-"  # none were given
    axes = budget_figures(tested)[0].make().axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["statistical", "systematic", "total", "scatter, fitted", "scatter, held out"]
    scatter, total = axes.lines[-1].get_ydata(), axes.lines[-3].get_ydata()
    assert 0.7 < np.median(scatter / total) < 1.4
    (pulls,) = pull_figures(tested)
    assert pulls.make().axes[0].get_xlabel() == "residual / error"


def test_maps_of_the_sky_are_whole(tested: Evidence) -> None:
    rng = np.random.default_rng(1)
    n = len(tested.rows["star"])
    ra, dec = rng.uniform(359, 361, n) % 360, rng.uniform(59, 61, n)
    placed = dataclasses.replace(tested, rows={**tested.rows, "ra": ra, "dec": dec})
    axes = sky_figures(placed)[0].make().axes[0]
    x, y = axes.collections[0].get_offsets().T
    assert np.ptp(x) < 1.1  # 2 deg of right ascension at 60 deg of declination
    assert np.ptp(y) < 2.1
    assert axes.xaxis_inverted()
    assert abs((sky_middle(ra, dec) + 180) % 360 - 180) < 0.1
    np.testing.assert_allclose(on_map(np.array([10.0]), np.array([60.0]), 350.0)[0], 10.0)
    places = places_of_frames(placed.rows, len(placed.solution.frames))
    assert np.all(np.abs((places["ra"] + 180) % 360 - 180) < 0.3)
    with pytest.raises(Missing, match=r"columns\.ra"):
        sky_figures(tested)


def test_a_strip_of_the_sky_has_a_map(tested: Evidence) -> None:
    """Stars at one declination, as of a drift scan, and stars at one place."""
    n = len(tested.rows["star"])
    assert np.count_nonzero(tested.of_band("g")) > 1000  # hexagons
    value = 1e3 * tested.judged[tested.of_band("g")]
    low, high = np.nanpercentile(value, [1, 99])
    for ra, dec in ((np.linspace(10, 12, n), np.full(n, 3.0)), (np.full(n, 10.0), np.full(n, 3.0))):
        placed = dataclasses.replace(tested, rows={**tested.rows, "ra": ra, "dec": dec})
        shown = sky_figures(placed)[0].make().axes[0].collections[0]
        medians = np.asarray(shown.get_array())
        assert len(medians)
        assert np.all((medians > low) & (medians < high))
