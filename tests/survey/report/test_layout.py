"""The page of all reports: text is escaped, figures are files, what cannot be drawn is named, whole or not at all."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest

from tests.cli.helpers import files
from xpjax.survey.report.drawing import draw_detector, draw_maps, rows_of_panels
from xpjax.survey.report.layout import Figure, Section, Table, file_name, write_page
from xpjax.survey.report.statistics import Missing


def drawn(figure: matplotlib.figure.Figure) -> None:
    figure.set_size_inches(4.75, 2)
    figure.subplots().plot([1, 2])


def not_drawn(figure: matplotlib.figure.Figure) -> None:
    raise Missing("no positions (--catalogue)")


def broken(figure: matplotlib.figure.Figure) -> None:
    raise RuntimeError("a bug")


SECTIONS = [
    Section("One & all", ("x < y",), [Figure("A map", "Of 3 stars.", drawn), Figure("a map", "Of 3 stars.", drawn)]),
    Section("Two", figures=[Figure("Other map", "Nothing.", not_drawn)]),
    Section("Three", tables=[Table("Of bands.", ("band", "n", "value [mag]"), [("g<", 12000, "1.2 ± 0.1")])]),
]


def test_a_page_and_its_figures(tmp_path: Path) -> None:
    made = write_page(tmp_path, "T <b>", ["a & b"], SECTIONS, [("Sky", "no positions (--catalogue)")])
    page = made.path.read_text()
    assert files(tmp_path) == ["report.html", "report_figures"]
    assert files(tmp_path / "report_figures") == ["a_map.png", "a_map_2.png"]
    assert re.findall(r"src='([^']*)' alt='([^']*)' style='width: (\d+)%'", page) == [
        ("report_figures/a_map.png", "A map", "50"), ("report_figures/a_map_2.png", "a map", "50"),
    ]  # fmt: skip
    for text in (
        "T &lt;b&gt;",
        "a &amp; b",
        "x &lt; y",
        "g&lt;",
        "<td class=n>12,000</td>",
        "<td class=n>1.2\u00a0±\u00a00.1</td>",
    ):
        assert text in page
    assert "<b>Figure 1.</b> Of 3 stars.<" in page
    assert "<b>Figure 2.</b> a map. As Figure 1.<" in page
    assert "<b>Table 1.</b> Of bands." in page
    assert ">Two<" not in page  # nothing to show
    assert page.count("<li>") == 1
    assert "<li>Sky; Other map: no positions (--catalogue).</li>" in page
    assert made.missing == {"Sky": "no positions (--catalogue)", "Other map": "no positions (--catalogue)"}
    for outside in ("<script", "http", "@import", "url("):
        assert outside not in page


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    write_page(tmp_path, "old", [], SECTIONS)
    with pytest.raises(FileExistsError):
        write_page(tmp_path, "new", [], SECTIONS)
    with pytest.raises(RuntimeError):
        write_page(tmp_path, "new", [], [Section("x", figures=[Figure("x", "", broken)])], overwrite=True)
    assert "<h1>old</h1>" in (tmp_path / "report.html").read_text()
    assert files(tmp_path / "report_figures") == ["a_map.png", "a_map_2.png"]
    (tmp_path / "report_figures" / "mine.txt").write_text("kept")
    write_page(tmp_path, "new", [], [Section("x", figures=[Figure("b/ü", "", drawn)])], overwrite=True)
    assert files(tmp_path / "report_figures") == ["b.png", "mine.txt"]
    with pytest.raises(ValueError, match=r"suffix of a report is \.html"):
        write_page(tmp_path, "new", [], [], name="page.txt")


def test_names_of_files_are_plain() -> None:
    assert file_name("Flats, g' / CCD 1") == "flats_g_ccd_1.png"
    assert file_name("???") == "figure.png"


def test_the_users_style_does_not_matter() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 40, "axes.grid": True}):
        assert Figure("a", "", drawn).make().axes[0].xaxis.label.get_fontsize() == 10
        assert matplotlib.rcParams["font.size"] == 40


def maps(figure: matplotlib.figure.Figure) -> None:
    rng = np.random.default_rng(0)
    ra, dec, value = rng.uniform(0, 1.5, 100), rng.uniform(-1.4, 0, 100), rng.normal(0, 300, 100)
    draw_maps({band: (ra, dec, value) for band in "abcdef"}, "residual [mmag]", figure)


def detectors(figure: matplotlib.figure.Figure) -> None:
    box = np.array([0.0, 10000.0, 0.0, 10000.0])
    for axes in rows_of_panels(figure, 3, [1.0] * 3, 2.6).ravel():
        draw_detector(axes, np.eye(5), box, 80.0, "g: flat")


@pytest.mark.parametrize("draw", [maps, detectors])
def test_labels_of_maps_lie_within_the_figure(draw: Callable[[matplotlib.figure.Figure], None]) -> None:
    """And beside each other, those of color bars too."""
    made = Figure("maps", "", draw).make()
    made.savefig(io.BytesIO(), format="png", dpi=100)
    width = made.bbox.width
    boxes = [axes.get_tightbbox() for axes in made.axes]
    known = [box for box in boxes if box is not None]
    assert min(box.x0 for box in known) >= 0
    assert max(box.x1 for box in known) <= width
    labels = [axes.yaxis.label.get_window_extent() for axes in made.axes if axes.get_ylabel()]
    labels += [bar.yaxis.label.get_window_extent() for axes in made.axes for bar in axes.child_axes if bar.get_ylabel()]
    assert not [1 for k, one in enumerate(labels) for two in labels[k + 1 :] if one.overlaps(two)]
