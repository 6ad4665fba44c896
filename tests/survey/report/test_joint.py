"""The report of a joint solution: its numbers are those of the solution, its figures are made or say why not."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.cli.helpers import xp
from tests.survey.joint.nights import observe
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import write
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint import (
    Color,
    Constraint,
    Extinction,
    Flat,
    JointModel,
    JointSolution,
    Parameter,
    Transmission,
    ZeroPoint,
    solve_joint,
    write_joint_solution,
)
from xpjax.survey.joint.blocks import Block, Part
from xpjax.survey.joint.covariance import StoredUncertainty
from xpjax.survey.joint.design import Design, StarMagnitudes
from xpjax.survey.joint.solution import FitQuality, RowResults
from xpjax.survey.observations import Frames, Observations
from xpjax.survey.report import joint_maps, write_report
from xpjax.survey.report.joint_correlation import correlated
from xpjax.survey.report.joint_curves import band_curve, field_of, parameter_table
from xpjax.survey.report.joint_evidence import JointEvidence, joint_evidence
from xpjax.survey.report.joint_maps import flat_figures, flat_maps
from xpjax.survey.report.joint_page import joint_sections, joint_summary
from xpjax.survey.report.joint_residuals import quality_table, residual_figures, star_scatter
from xpjax.survey.report.joint_terms import model_table, value_tables, with_error, zero_point_figures
from xpjax.survey.report.layout import write_page
from xpjax.synthetic import TransmissionChain, read_chain

Solved = tuple[JointSolution, Observations]


@pytest.fixture(scope="module")
def solved() -> Solved:
    o = observe(200)
    terms = (ZeroPoint(), Color(per="band", order=2), Flat(form="chebyshev", order=2), Extinction(prior=0.1))
    constraints = (Constraint("zero_point"), Constraint("color"))
    model = JointModel(terms, constraints, size=(0, 1, 0, 2), min_observations=4)
    return solve_joint(o, model, held_out_stars=o.star % 8 == 7), o


@pytest.fixture(scope="module")
def evidence(solved: Solved) -> JointEvidence:
    return joint_evidence(*solved)


def test_the_numbers_are_those_of_the_solution(solved: Solved, evidence: JointEvidence) -> None:
    found, o = solved
    mine = found.used & (o.frames.band[o.frame] == "r")
    row = dict(zip(quality_table(evidence).columns[:9], quality_table(evidence).rows[1][:9], strict=True))
    assert (row["band"], row["used"], row["clipped"]) == (
        "r",
        mine.sum(),
        (found.clipped & (o.frames.band[o.frame] == "r")).sum(),
    )
    assert float(row["std"]) == pytest.approx(1e3 * found.residual[mine].std(), abs=0.006)
    held = [r[10] for r in quality_table(evidence).rows]
    assert found.held_out is not None
    assert sum(int(n) for n in held) == np.isfinite(found.held_out.residual).sum() > 100
    # Held-out stars scatter by more than those that made the fit, and both stand in the summary.
    assert float(quality_table(evidence).rows[0][11]) > float(quality_table(evidence).rows[0][7])
    assert f"chi2 is {found.chi2:,.0f} for {found.degrees_of_freedom:,}" in joint_summary(evidence)[0]
    value, error = found.term("extinction")
    told = {cells[1]: cells[2] for cells in value_tables(evidence)[0].rows if cells[0] == "extinction"}
    assert told["night 2 r"] == with_error(value[found.block("extinction").labels.index("night 2 r")],
                                           error[found.block("extinction").labels.index("night 2 r")])  # fmt: skip
    one = star_scatter(evidence, "g")
    star = int(np.argmax(found.n_used[:, 0]))
    rows = found.used & (o.star == found.star[star]) & (o.frames.band[o.frame] == "g")
    place = np.flatnonzero(one.magnitude == found.magnitude[star, 0])[0]
    assert one.rms[place] == pytest.approx(np.sqrt((found.residual[rows] ** 2).sum() / (rows.sum() - 1)))


def test_numbers_with_errors() -> None:
    assert with_error(1.23456, 0.0123) == "1.235 \u00b1 0.012"
    assert with_error(24.9, 3.0) == "24.9 \u00b1 3.0"
    assert with_error(4e-35, 0.0) == "0"  # held by a constraint
    assert with_error(np.nan, 1.0) == "-"


def test_flats_are_what_the_solution_adds(solved: Solved, evidence: JointEvidence) -> None:
    """A map at its cells beside the solution's own correction of measurements there."""
    found, o = solved
    one = next(m for m in flat_maps(evidence) if m.name == "flat r b")
    np.testing.assert_array_equal(one.box, [0, 1, 0, 2])
    bins = len(one.value)
    i, j = np.array([3, 20, 39]), np.array([0, 31, 12])
    rows = np.flatnonzero((o.frames.band[o.frame] == "r") & (o.frames.detector[o.frame] == "b"))[:3]
    place = {"x": (j + 0.5) / bins, "y": (i + 0.5) / bins * 2}
    at = dataclasses.replace(o[rows], **place)
    design, _ = found.design_matrix(at)
    flat = design.toarray()
    flat[:, np.setdiff1d(np.arange(len(found.value)), np.arange(len(found.value))[found.columns("flat")])] = 0
    np.testing.assert_allclose(one.value[i, j], flat @ np.nan_to_num(found.value), atol=1e-12)
    error = np.sqrt(np.diagonal(found.covariance(flat)))
    np.testing.assert_allclose(one.error[i, j], error, rtol=1e-9)


def test_flats_that_are_not_drawn_have_names(evidence: JointEvidence, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = flat_maps(evidence)
    assert flat_figures(maps)[1] == {}
    monkeypatch.setattr(joint_maps, "MOST_MAPS", 2)
    figures, left_out = flat_figures(maps)
    (name,) = left_out
    drawn = {axes.get_title() for axes in figures[0].make().axes}
    assert all((one.name in name) != (one.name in drawn) for one in maps)


def test_residuals_have_a_panel_for_detectors(evidence: JointEvidence) -> None:
    figures, missing = residual_figures(evidence)
    assert not missing
    panels = {axes.get_xlabel(): axes for axes in figures[0].make().axes}
    assert [t.get_text() for t in panels["detector"].get_xticklabels()] == ["a", "b"]
    own = evidence.solution.frames.detector[evidence.rows["frame"]] == "a"
    expected = 1e3 * np.nanmedian(evidence.fitted[evidence.of_band("g") & own])
    assert panels["detector"].lines[0].get_ydata()[0] == pytest.approx(expected)


def test_correlations_are_those_of_the_covariance(solved: Solved, evidence: JointEvidence) -> None:
    found, _ = solved
    names, matrix = correlated(evidence)
    assert not any(name.startswith(("color", "mean zero_point")) for name in names)  # constraints hold them
    columns = [int(found.places("extinction")[k]) for k in np.arange(10)]
    labels = found.block("extinction").labels
    rows = np.zeros((2, len(found.value)))
    for row, band in zip(rows, "gr", strict=True):
        row[[c for c, label in zip(columns, labels, strict=True) if label.endswith(band)]] = 0.2
    both = found.covariance(rows)
    i, j = names.index("mean extinction g"), names.index("mean extinction r")
    assert matrix[i, j] == pytest.approx(both[0, 1] / np.sqrt(both[0, 0] * both[1, 1]), abs=1e-9)
    np.testing.assert_allclose(np.diagonal(matrix), 1)


def test_the_model_in_words(evidence: JointEvidence) -> None:
    section = joint_sections(evidence)[0][0]
    assert section.text[0] == "Constraints: mean of zero_point = 0; mean of color = 0."
    assert list(section.items) == list(evidence.solution.gauge) != []
    rows = {str(row[0]): row for row in model_table(evidence).rows}
    assert rows["flat"][1] == "the response over the detector, for each group of frames"
    assert rows["flat"][2:5] == ("form chebyshev", 20, 0)


# --- transmission -----------------------------------------------------------------------------------------------------

BOX = np.array([0.0, 4000.0, 0.0, 2000.0])
NUMBERS = ("star", "x", "y", "ra", "dec", "color", "magnitude_error", "star_magnitude")
SHIFT, BLUE, SLOPE = 1.5, -2.0, 0.03


def moved(chain: TransmissionChain, center: tuple[float, float] | None = None) -> JointEvidence:
    """A solution that moved the filters, with a radial field, and turned the detector's curve."""
    fields = {"filter_shift": Parameter("all", field="radial", center=center), "detector_slope": Parameter("all")}
    term = Transmission(chain, "none.h5", fields)
    said = (("filter_shift", "nm"), ("filter_shift r2", "nm"), ("detector_slope", "(100 nm)-1"))
    blocks = tuple(
        Block(f"transmission {name}", np.empty(0, np.int32), ("all",), (Part(name, unit),), {}) for name, unit in said
    )
    n = 2
    frames = Frames(np.array(["a", "b"]), np.array(["g", "r"]), np.full(n, ""), np.full(n, ""), np.zeros(n), np.ones(n))
    covariance = np.array([[0.04, -0.03, 0.001], [-0.03, 0.09, 0.0], [0.001, 0.0, 1e-4]])
    magnitudes = StarMagnitudes(np.array([1]), ("g", "r"), np.full((1, 2), 15.0), np.ones((1, 2), int),
                                np.zeros((1, 2), bool), np.zeros(2))  # fmt: skip
    empty = np.empty(0)
    rows = RowResults(empty.astype(int), empty, empty.astype(bool), empty.astype(bool), empty.astype(np.uint32))
    found = JointSolution(
        Design((term,), frames, Scaling(np.tile(BOX, (2, 1)), 0.0, 0.0), blocks), np.array([SHIFT, BLUE, SLOPE]), (),
        magnitudes, rows, FitQuality(1.0, 1, True, 1, 0),
        StoredUncertainty(covariance, np.sqrt(np.diagonal(covariance)), np.zeros(2), "", np.zeros(3, bool)),
    )  # fmt: skip
    return JointEvidence(
        found, {"frame": np.empty(0, int), **dict.fromkeys(NUMBERS, empty)}, {}, {"transmission": term}
    )


@pytest.mark.slow
@pytest.mark.parametrize(("place", "shift"), [("center", SHIFT), ("corner", SHIFT + BLUE)])
def test_transmission_before_and_after(place: str, shift: float) -> None:
    chain = read_chain("minisitian")
    evidence = moved(chain)
    one = band_curve(evidence, "transmission", "g", place)
    own = np.asarray(chain.filter_shift)
    after = np.asarray(chain.transmission(one.wavelength, "g", filter_shift=own + shift, detector_slope=SLOPE))
    before = np.asarray(chain.transmission(one.wavelength, "g"))
    np.testing.assert_allclose(one.after, after * before.sum() / after.sum(), atol=1e-5)
    np.testing.assert_allclose(one.before, before, atol=1e-5)
    assert one.mean[1] - one.mean[0] == pytest.approx(
        (after * one.wavelength).sum() / after.sum() - (before * one.wavelength).sum() / before.sum(), abs=1e-3
    )
    # The band of error is the spread of curves of parameters drawn from the covariance.
    rng, covariance = np.random.default_rng(0), evidence.solution.covariance(np.eye(3))
    draws = rng.multivariate_normal([SHIFT, BLUE, SLOPE], 0.01 * covariance, 150)
    curves = []
    for drawn in draws:
        at = drawn[0] + drawn[1] * (place == "corner")
        curve = np.asarray(chain.transmission(one.wavelength, "g", filter_shift=own + at, detector_slope=drawn[2]))
        curves.append(curve * before.sum() / curve.sum())
    assert one.error is not None
    steep = one.error > 0.2 * one.error.max()
    ratio = 10 * np.std(curves, axis=0)[steep] / one.error[steep]
    assert 0.8 < np.median(ratio) < 1.2
    centers = [(c * one.wavelength).sum() / c.sum() for c in curves]
    assert one.mean[2] == pytest.approx(10 * np.std(centers), rel=0.2)


def test_a_field_is_where_its_center_is() -> None:
    """Powers of the distance in half diagonals, on a detector that is not square."""
    chain = read_chain("minisitian")
    at = (np.arange(40) + 0.5) / 40
    x, y = 4000 * at[None, :], 2000 * at[:, None]
    for center in (None, (500.0, 1700.0)):
        value, error = field_of(moved(chain, center), "transmission", "filter_shift", "r")
        x0, y0 = center or (2000.0, 1000.0)
        r2 = 4 * ((x - x0) ** 2 + (y - y0) ** 2) / (4000**2 + 2000**2)
        np.testing.assert_allclose(value, SHIFT + BLUE * r2, atol=1e-9)
        np.testing.assert_allclose(error, np.sqrt(0.04 - 0.06 * r2 + 0.09 * r2**2), rtol=1e-9)
    rows = parameter_table(moved(chain)).rows
    assert ("filter_shift", "g, r", "0", "1.50 \u00b1 0.20", "nm") in rows


# --- pages ------------------------------------------------------------------------------------------------------------


def test_zero_points_against_time_and_airmass(evidence: JointEvidence) -> None:
    figure = zero_point_figures(evidence)[0].make()
    panels = figure.axes
    assert [axes.get_xlabel() for axes in panels[2:]] == ["time - 60000 [d]", "airmass"]
    shown = np.concatenate([line.get_ydata() for c in panels[0].containers for line in (c[0],)])
    found = evidence.solution
    own = found.term("zero_point")[0][found.block("zero_point").keys["band"] == "g"]
    np.testing.assert_array_equal(np.sort(shown), np.sort(own))


@pytest.mark.slow
def test_every_figure_is_made_or_says_why_not(solved: Solved, evidence: JointEvidence, tmp_path: Path) -> None:
    sections, missing = joint_sections(evidence)
    assert set(missing) == {
        "Transmission before and after", "Sky map of XP's errors", "Sky map of residuals",
        "XP's error against wavelength",
    }  # fmt: skip
    page = write_page(tmp_path, "joint", joint_summary(evidence), sections, missing)
    assert page.missing == missing
    titles = {section.title for section in sections if section.figures or section.tables}
    assert {"Model", "Zero-points", "Color terms", "Flats", "Correlations", "Residuals", "Stars"} <= titles
    for table in itertools.chain.from_iterable(section.tables for section in sections):
        assert {len(row) for row in table.rows} == {len(table.columns)}
    again = write_report(solved, tmp_path / "in_memory.html")
    assert again.missing == missing


@pytest.mark.slow
def test_transmission_is_drawn(tmp_path: Path) -> None:
    sections, missing = joint_sections(moved(read_chain("minisitian")))
    assert "Transmission before and after" not in missing
    mine = next(section for section in sections if section.title == "Transmission")
    assert [figure.name for figure in mine.figures] == ["Transmission", "Transmission over the detector"]
    assert write_page(tmp_path, "joint", [], [mine]).missing == {}


CONFIG = """
[columns]
star = "star"
exposure = "exposure"
band = "band"
airmass = "airmass"
x = "x"
y = "y"
ra = "ra"
dec = "dec"
magnitude = "magnitude"
magnitude_error = "magnitude_error"
model = "model"
model_error = "model_error"
color = "bp_rp"
[joint]
star_prior = true
min_observations = 4
hold_out_stars = 8
[[term]]
kind = "zero_point"
[[term]]
kind = "sky"
nside = 32
prior = 0.005
"""


@pytest.mark.slow
def test_a_page_of_files(tmp_path: Path) -> None:
    """Colors are among the measurements: the page needs no tables, and shows the same with them."""
    o = observe(60)
    names = ("star", "x", "y", "magnitude", "magnitude_error", "model", "model_error")
    columns = {name: getattr(o, name) for name in names} | {"bp_rp": o.color}
    columns |= {name: getattr(o.frames, name)[o.frame] for name in ("band", "airmass")}
    columns["exposure"] = np.char.add(o.frames.exposure, o.frames.detector)[o.frame]
    rng = np.random.default_rng(0)
    columns |= {name: rng.uniform(10, 13, o.star.max() + 1)[o.star] for name in ("ra", "dec")}
    write(tmp_path / "field.parquet", Catalogue(columns))
    (tmp_path / "survey.toml").write_text(CONFIG)
    call = ("survey", "solve", tmp_path / "field.parquet", "--config", tmp_path / "survey.toml")
    done = xp(*call, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    done = xp("survey", "report", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "not made: Residuals against color" not in done.stderr
    table = xpjax.read_table(tmp_path / "out" / "calibrated.parquet")
    np.testing.assert_array_equal(table["color"], o.color)
    assert table["color"].unit == "mag"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Joint solution: out" in page
    assert "command: xpjax survey solve; inputs: field.parquet" in page
    assert "alt='Sky map of sky, g, r'" in page
    again = write_report(tmp_path / "out", catalogues=[tmp_path / "field.parquet"], overwrite=True)
    assert not {"Residuals against color", "Sky map of residuals"} & set(again.missing)


def test_what_is_refused(solved: Solved, tmp_path: Path) -> None:
    found, o = solved
    with pytest.raises(XpjaxError, match="camera= has no effect on the report of a joint solution"):
        write_report(solved, tmp_path / "r.html", camera="ccd")
    with pytest.raises(XpjaxError, match="give the observations that were solved for"):
        write_report(found, tmp_path / "r.html")
    with pytest.raises(XpjaxError, match="give the tables that were solved for"):
        write_report((found, o[:-1]), tmp_path / "r.html")
    write_joint_solution(tmp_path / "joint.h5", found)
    with pytest.raises(XpjaxError, match=r"calibrated\.parquet beside it|observations that were solved"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["joint.h5"]
