"""The report of a stellar color regression: its numbers are those of the solution, its figures are made."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.scr import BANDS, Sky
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import write
from xpjax.survey.report import write_report
from xpjax.survey.report.scr_page import (
    ScrEvidence,
    coefficient_tables,
    relation_figures,
    relation_table,
    repeats,
    residual_figures,
    scale_table,
    scr_of,
    scr_sections,
    scr_summary,
    tile_table,
)
from xpjax.survey.scr import ScrSolution, run_scr

COLUMNS = {
    "star": "star", "tile": "tile", "teff": "teff", "feh": "feh", "reddening": "e", "bp": "BP", "rp": "RP",
    "magnitude": "{band}", "magnitude_error": "{band}_err", "model": "{band}_xp",
}  # fmt: skip
CONFIG = {"columns": COLUMNS, "regression": {"order": 2}, "band": [{"name": "i", "gaia": "RP"}]}
NOISE = 0.01


@pytest.fixture(scope="module")
def evidence() -> ScrEvidence:
    """Stars of twenty tiles, the first half of them on the next tile again; three tiles without spectroscopy."""
    sky, rng, k = Sky.make(2, 20, 60, noisy=False, common=False), np.random.default_rng(9), BANDS.index("i")
    color, _ = sky.color(k)
    n = len(color)
    color = color - sky.zero_point[sky.tile, k]  # of the star alone
    rp, bp_rp = rng.uniform(13, 15, n), rng.uniform(0.5, 1.2, n)
    again = np.flatnonzero(np.arange(n) % 60 < 30)
    row = np.concatenate([np.arange(n), again])
    tile = np.concatenate([sky.tile, (sky.tile[again] + 1) % 20])
    zero_point = rng.normal(0, 0.02, 20)
    seen = rp[row] - color[row] - zero_point[tile] + rng.normal(0, NOISE, len(row))
    labels = np.where((tile >= 17)[:, None], np.nan, sky.labels[row])
    stars = {
        "star": row, "tile": tile, "teff": labels[:, 0], "feh": labels[:, 1], "e": labels[:, 2],
        "BP": rp[row] + bp_rp[row], "RP": rp[row], "i": seen, "i_err": np.full(len(row), NOISE),
        "i_xp": rp[row] - color[row] - 0.05 + 0.01 * rng.normal(size=len(row)),
    }  # fmt: skip
    found = scr_of(run_scr(stars, CONFIG), {})
    assert found is not None
    return found


def test_the_numbers_are_those_of_the_solution(evidence: ScrEvidence) -> None:
    solution = evidence.solution
    one = solution.regressions["i"]
    row = dict(zip(relation_table(evidence).columns, relation_table(evidence).rows[0], strict=True))
    k = one.names.index("reddening")
    assert row["stars"] == one.n_used
    value, error = map(float, str(row["R"]).split(" \u00b1 "))
    assert value == pytest.approx(one.value[k] / one.scale[2], abs=0.6 * error)
    assert error == pytest.approx(one.error[k] / one.scale[2], rel=0.06)
    tiles = dict(zip(tile_table(evidence).columns, tile_table(evidence).rows[0], strict=True))
    assert (tiles["by SCR"], tiles["by XPSP"], tiles["none"]) == (17, 3, 0)
    scale = solution.zero_points.scales["i"]
    assert scale_table(evidence).rows[0][1] == scale.n_overlap == 17
    assert float(str(scale_table(evidence).rows[0][2]).split()[0]) == pytest.approx(1e3 * scale.offset, abs=0.06)
    assert "on 20 tiles in 1 band." in scr_summary(evidence)[0]


def test_stars_on_two_tiles_differ_by_their_noise(evidence: ScrEvidence) -> None:
    """By that of two measurements: relations and zero-points have gone."""
    found = repeats(evidence, "i")
    assert 300 < len(found) < 600
    assert np.std(found) == pytest.approx(np.sqrt(2) * NOISE, rel=0.15)


def test_residuals_are_drawn_against_labels_and_color(evidence: ScrEvidence) -> None:
    assert evidence.solution.predicted.units["teff"] == "K"
    labels = [axes.get_xlabel() for axes in residual_figures(evidence)[0].make().axes]
    assert labels == ["BP - RP [mag]", "Teff [K]", "[Fe/H] [dex]", "reddening [mag]"]


def test_relations_are_drawn_through_their_stars(evidence: ScrEvidence) -> None:
    axes = relation_figures(evidence)[0].make().axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Teff [K]", "G_RP - i [mag]")
    x, y = axes.lines[1].get_data()
    one = evidence.solution.regressions["i"]
    used = np.isfinite(evidence.residual("i"))
    feh = np.median(evidence.column("feh")[used])
    np.testing.assert_allclose(y, one.intrinsic(np.stack([x, np.full(100, feh), np.zeros(100)], axis=1)), atol=1e-6)
    points = axes.collections[0].get_offsets()
    near = [np.interp(teff, x, y) for teff in points[:, 0]]
    assert 0.5 * NOISE < np.std(points[:, 1] - near) < 5 * NOISE  # metallicities differ


def test_the_constant_is_in_magnitudes_and_all_else_in_mmag(evidence: ScrEvidence) -> None:
    one = evidence.solution.regressions["i"]
    table = coefficient_tables(evidence)[0]
    told = {row[0]: (row[1], float(str(row[2]).split()[0])) for row in table.rows}
    assert told["constant"] == ("mag", pytest.approx(one.value[one.names.index("constant")], abs=1e-3))
    assert told["teff1"] == ("mmag", pytest.approx(1e3 * one.value[one.names.index("teff1")], abs=0.2))


@pytest.mark.slow
def test_a_page_of_a_folder(evidence: ScrEvidence, tmp_path: Path) -> None:
    solution: ScrSolution = evidence.solution
    solution.write(tmp_path / "scr")
    rng, names = np.random.default_rng(0), np.arange(20)
    places = {"ra": rng.uniform(0, 20, 20), "dec": rng.uniform(0, 9, 20), "time": 60000.0 + names}
    write(tmp_path / "tiles.ecsv", Catalogue({"tile": names, **places}))
    page = write_report(tmp_path / "scr", tiles=tmp_path / "tiles.ecsv")
    assert page.missing == {}
    drawn = {figure.name for section in page.sections for figure in section.figures}
    assert {"Sky map of zero-points", "Difference of the methods", "Repeatability between tiles"} <= drawn
    assert page.path.read_text().count("<img ") == len(drawn)


def test_what_is_refused_and_what_is_missing(evidence: ScrEvidence, tmp_path: Path) -> None:
    _, missing = scr_sections(evidence)
    assert set(missing) == {"Sky map of zero-points"}
    with pytest.raises(XpjaxError, match="camera= has no effect on the report of a stellar color regression"):
        write_report(evidence.solution, tmp_path / "r.html", camera="ccd")
    write(tmp_path / "tiles.ecsv", Catalogue({"name": np.arange(20), "ra": np.zeros(20)}))
    with pytest.raises(XpjaxError, match="needs a column tile or exposure"):
        write_report(evidence.solution, tmp_path / "r.html", tiles=tmp_path / "tiles.ecsv")
