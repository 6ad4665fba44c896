"""Figures: what is drawn and what is refused; their looks are for eyes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpjax
from xpjax import plot
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.io.figures import CYCLE
from xpjax.synthetic.figures import DENSE, color_bands
from xpjax.synthetic.passband import Passband, PassbandSet

GRID = np.arange(336.0, 1021.0, 2.0)


def spectra(n: int, internal: bool = False) -> Catalogue:
    flux = np.ones((n, len(GRID))) * 1e-16 * (1 + np.arange(n))[:, None]
    columns = {"source_id": np.arange(n) // (2 if internal else 1) + 10}
    if internal:
        columns["xp"] = np.array(["BP", "RP"] * n)[:n]
    columns |= {"flux": flux, "flux_error": flux / 10}
    return Catalogue(columns, {"flux": "W m-2 nm-1"}, shared={"wavelength": GRID}, meta={"release": "Gaia DR3"})


def photometry(n: int, *bands: str) -> Catalogue:
    rng = np.random.default_rng(0)
    columns = {"source_id": np.arange(n)} | {f"Sdss_mag_{band}": rng.normal(16, 1, n) for band in bands}
    columns["Sdss_mag_error_g"] = np.ones(n)
    columns["xp_status"] = np.arange(n) % 5 // 4
    return Catalogue(columns)


def shown(figure: object) -> list:
    return [axes for axes in figure.axes if axes.get_visible()]


def test_a_panel_for_each_source() -> None:
    figure = plot.plot_spectra(spectra(3))
    assert [axes.get_title(loc="right") for axes in shown(figure)] == [f"source {i}" for i in (10, 11, 12)]
    assert "nm" in figure.get_supxlabel()
    assert "mathrm{W" in figure.get_supylabel()
    assert np.allclose(shown(figure)[1].lines[0].get_ydata(), 2e-16)
    assert len(shown(plot.plot_spectra(spectra(9)))) == 6
    assert len(shown(plot.plot_spectra(spectra(9), [15]))) == 1


def test_internal_spectra_share_a_panel() -> None:
    figure = plot.plot_spectra(spectra(4, internal=True))
    assert len(shown(figure)) == 2
    assert legend(figure) == ["BP", "RP", "\u00b11 standard error"]
    assert figure.get_supxlabel() == "Pseudo-wavelength"


def test_bands_are_marked() -> None:
    figure = plot.plot_spectra(spectra(1), system=xpjax.load_system("JPLUS"))
    strip = shown(figure)[-1]
    assert [text.get_text() for text in strip.texts] == list(xpjax.load_system("JPLUS").names)
    many = shown(plot.plot_spectra(spectra(1), system=xpjax.load_system("JPAS")))[-1]
    assert [text.get_text() for text in many.texts] == [f"{xpjax.load_system('JPAS').n_band} bands"]
    some = shown(plot.plot_spectra(spectra(1), system="JPLUS:gJPLUS,rJPLUS", limits=(400, 560)))[-1]
    assert [text.get_text() for text in some.texts] == ["gJPLUS"], "the mean of r is outside"
    own = shown(plot.plot_spectra(spectra(1), system=xpjax.load_passbands("sdss2010:g,r")))[-1]
    assert [text.get_text() for text in own.texts] == ["g", "r"]


def legend(figure: object) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_spectra_over_each_other_within_limits() -> None:
    one, two = spectra(3), spectra(3)
    two.columns["flux"] = two.columns["flux"] * 1.5
    figure = plot.plot_spectra({"published": one, "corrected": two}, [11], limits=(400, 500))
    (axes,) = shown(figure)
    assert legend(figure) == ["published", "corrected", "\u00b11 standard error"], "BP and RP merge outside"
    first, second, zero = axes.lines
    assert zero.get_ydata() == [0, 0]
    assert first.get_color() != second.get_color()
    inside = (GRID >= 400) & (GRID <= 500)
    assert np.array_equal(first.get_xdata(), GRID[inside])
    assert np.allclose(second.get_ydata(), 1.5 * np.asarray(first.get_ydata()))
    with pytest.raises(XpjaxError, match="absolute and internal spectra; expected 1 to 7 tables of one kind"):
        plot.plot_spectra({"a": one, "b": spectra(2, internal=True)})


def test_what_is_not_shown_is_counted(tmp_path: Path) -> None:
    def told(figure: object) -> str:
        return shown(figure)[0].get_title(loc="left")

    assert told(plot.plot_spectra(spectra(20))) == "6 of 20 sources"
    assert told(plot.plot_spectra(spectra(3))) == ""
    xpjax.write(tmp_path / "xp.parquet", xpjax.simulate_sources(8, seed=1))
    assert told(plot.plot_file(tmp_path / "xp.parquet")) == "6 of 8 sources"
    stars = photometry(50, "g", "i", "r")
    stars.columns["Sdss_mag_g"][:2] = np.nan
    stars.columns["Sdss_mag_g"][2] = 99.0
    assert shown(plot.plot_photometry(stars))[0].get_title() == "Sdss: 48 of 50 sources"
    color = stars.columns["Sdss_mag_g"] - stars.columns["Sdss_mag_i"]
    inside = int(((color >= -1) & (color <= 0.5)).sum())
    figure = plot.plot_photometry(stars, limits=(-1, 0.5))
    assert shown(figure)[0].get_title() == f"Sdss: {inside} of 50 sources"
    assert shown(figure)[0].get_xlim() == (-1, 0.5)
    several = PassbandSet("made", (band("u", 350), band("y", 900)))
    assert shown(plot.plot_passbands(several, limits=(700, 1000)))[0].get_title(loc="right") == "1 of 2 bands"


def test_bands_and_sources_of_a_diagram() -> None:
    stars = photometry(50, "u", "g", "r", "i", "z")
    axes = shown(plot.plot_photometry(stars, ["u", "z", "g"]))[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("u \N{MINUS SIGN} z [mag]", "g [mag]")
    assert shown(plot.plot_photometry(stars, ["u"]))[0].get_xlabel() == "u [mag]"
    assert shown(plot.plot_photometry(stars, sources=range(10)))[0].get_title() == "Sdss: 10 sources"


def test_sets_over_each_other() -> None:
    sets = [PassbandSet("a", (band("g", 500), band("r", 600))), PassbandSet("b", (band("g", 510),))]
    figure = plot.plot_passbands(sets, together=True)
    (axes,) = shown(figure)
    assert legend(figure) == ["a: g, r", "b: g"]
    assert [line.get_color() for line in axes.lines][:2] == [axes.lines[0].get_color()] * 2
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 2


def test_a_notebook_shows_a_figure() -> None:
    """By IPython's own formatter of PNG, at the size that the figure has."""
    from IPython.core.formatters import DisplayFormatter

    figure = plot.plot_passbands(band("x", 600))
    shown, notes = DisplayFormatter().format(figure)
    assert shown["image/png"].startswith(b"\x89PNG")
    width, height = figure.get_size_inches()
    assert notes["image/png"] == {"width": round(96 * width), "height": round(96 * height)}


def test_settings_of_others_leave_figures_as_they_are() -> None:
    """GaiaXPy, once imported, asks all figures for LaTeX; the process's own settings stay."""
    import matplotlib as mpl

    with mpl.rc_context({"text.usetex": True, "axes.spines.top": True}):
        figure = plot.plot_passbands(band("x", 600))
        figure.savefig(os.devnull, format="png")
        assert mpl.rcParams["text.usetex"]
    assert not shown(figure)[0].spines["top"].get_visible()


def test_the_style_is_for_others_too() -> None:
    import matplotlib as mpl
    import matplotlib.style

    with matplotlib.style.context("xpjax.style"):
        assert [entry["color"] for entry in mpl.rcParams["axes.prop_cycle"]] == list(CYCLE)


def test_spectra_without_data_or_errors() -> None:
    made = spectra(2)
    made.columns["flux"][0] = np.nan
    del made.columns["flux_error"]
    figure = plot.plot_spectra(made)
    assert [text.get_text() for text in shown(figure)[0].texts] == ["no data"]


def test_color_and_magnitude() -> None:
    figure = plot.plot_photometry(photometry(50, "u", "g", "r", "i", "z"))
    (axes,) = shown(figure)
    assert axes.get_xlabel() == "g \N{MINUS SIGN} i [mag]"
    assert axes.get_ylabel() == "r [mag]"
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "40 without flags",
        "10 flagged in xp_status",
    ]


def test_many_sources_are_a_density() -> None:
    figure = plot.plot_photometry(photometry(DENSE + 1, "g", "i", "r"))
    assert shown(figure)[1].get_ylabel() == "Number of sources"
    assert shown(figure)[0].yaxis_inverted()


def test_one_band_is_a_histogram() -> None:
    assert shown(plot.plot_photometry(photometry(50, "VIS")))[0].get_ylabel() == "Number of sources"


def test_every_published_system_has_a_color() -> None:
    for name in xpjax.available_systems():
        names = xpjax.load_system(name).names
        if len(names) > 1:
            blue, red, magnitude = color_bands(names)
            assert blue != red, name
            assert {blue, red, magnitude} <= set(names), name


def band(name: str, center: float, **meta: str) -> Passband:
    x = center + np.arange(-50.0, 51.0)
    return Passband(name, x, 0.8 * np.exp(-(((x - center) / 30) ** 2)), meta=meta)


def test_passbands_with_names_and_gray_zones() -> None:
    several = PassbandSet("made", (band("u", 350, kind="measured"), band("y", 1020, kind="recovered")))
    (axes,) = shown(plot.plot_passbands(several))
    assert [text.get_text() for text in axes.texts] == ["u", "y"]
    assert (axes.get_title(loc="left"), axes.get_title(loc="right")) == ("made", "measured, recovered")
    assert np.array_equal(axes.lines[0].get_ydata(), several["u"].transmission)
    zones = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
    limits = axes.get_xlim()
    assert np.allclose([(zone.x0, zone.x1) for zone in zones], [(limits[0], 330), (1050, limits[1])])
    assert limits[0] < 330 - 25
    assert limits[1] > 1050 + 15


def test_a_panel_for_each_set_of_passbands() -> None:
    one, two = PassbandSet("a", (band("g", 500),)), PassbandSet("b", (band("K", 2150),))
    panels = shown(plot.plot_passbands([one, band("x", 600), two, band("y", 700)]))
    assert [axes.get_title(loc="left") for axes in panels] == ["passbands", "a", "b"]
    assert panels[0].get_xlim() == panels[2].get_xlim()
    assert panels[0].get_xlim()[1] > 2200
    assert len(shown(plot.plot_passbands(band("x", 600)))) == 1


def test_names_of_passbands_do_not_overlap() -> None:
    for n in (12, 40):
        several = PassbandSet("many", tuple(band(f"J0{k:03}", 380 + 560 * k / n) for k in range(n)))
        figure = plot.plot_passbands(several)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in shown(figure)[0].texts]
        assert not [(i, j) for i in range(n) for j in range(i) if boxes[i].overlaps(boxes[j])]
        top = shown(figure)[0].get_window_extent().y1
        assert max(box.y1 for box in boxes) < top + 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.plot_spectra(spectra(3), [1]), "no source 1 among the 3 spectra"),
        (lambda: plot.plot_spectra(spectra(40), range(10, 50)), "40 spectra to plot; choose 1 to 24"),
        (lambda: plot.plot_spectra(photometry(3, "g")), "no spectra to plot"),
        (lambda: plot.plot_photometry(spectra(3)), "no photometry to plot"),
        (lambda: plot.plot_spectra(spectra(0)), "no sources to plot"),
        (lambda: plot.plot_photometry(photometry(0, "g", "i")), "no sources to plot"),
        (lambda: plot.plot_spectra(spectra(3), limits=(10, 20)), "no wavelength from 10 to 20: there are 336 to 1020"),
        (lambda: plot.plot_spectra(spectra(3), limits=(500, 400)), "expected two numbers, low before high"),
        (lambda: plot.plot_photometry(photometry(3, "g", "i"), ["g", "y", "i"]), "no system has g, y, i; there are"),
        (lambda: plot.plot_photometry(photometry(3, "g", "i"), ["g", "i"]), "2 bands to plot; name one, or three"),
        (lambda: plot.plot_photometry(photometry(3, "g", "i"), sources=[7]), "no source 7 among 3"),
        (lambda: plot.plot_passbands(band("x", 600), limits=(900, 950)), "no wavelength of a passband from 900 to 950"),
        (lambda: plot.plot_passbands([]), "0 sets of passbands to plot; choose 1 to 12"),
        (lambda: plot.plot_spectra(spectra(4, internal=True), system=xpjax.load_system("JPLUS")), "internal spectra"),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_no_pyplot() -> None:
    """Plotting leaves no global figure and chooses no backend."""
    code = (
        "import sys, numpy as np; from xpjax import plot; from xpjax.core.records import Catalogue;"
        "assert 'matplotlib' not in sys.modules;"
        "plot.plot_photometry(Catalogue({'A_mag_g': np.arange(9.), 'A_mag_i': np.zeros(9)}));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_any_table_is_plotted(tmp_path: Path) -> None:
    sources = xpjax.simulate_sources(5, seed=1)
    stars, sampled = xpjax.photometry(sources, "SDSS"), xpjax.spectra(sources)
    xpjax.write(tmp_path / "stars.ecsv", stars)
    xpjax.write(tmp_path / "spectra.fits", sampled)
    tables = (stars, stars.to_table(), stars.to_pandas(), stars.to_arrow(), tmp_path / "stars.ecsv")
    for table in tables:
        assert shown(plot.plot_photometry(table))[0].get_ylabel() == "r [mag]"
    for table in (sampled, sampled.to_table(), sampled.to_arrow(), tmp_path / "spectra.fits"):
        assert np.array_equal(shown(plot.plot_spectra(table))[0].lines[0].get_ydata(), sampled.flux[0].astype(float))
    assert shown(stars.plot())[0].get_ylabel() == "r [mag]"
    assert len(shown(sampled.plot(sampled.source_id[:2]))) == 2


def test_a_file_of_any_kind_is_plotted(tmp_path: Path) -> None:
    sources = xpjax.simulate_sources(8, seed=1)
    xpjax.write(tmp_path / "xp.parquet", sources)
    xpjax.write(tmp_path / "stars.csv", xpjax.photometry(sources, "SDSS"))
    assert len(shown(plot.plot_file(tmp_path / "xp.parquet"))) == 6
    assert len(shown(plot.plot_file(tmp_path / "xp.parquet", sources.source_id[:1].tolist(), "JPLUS"))) == 2
    assert shown(plot.plot_file(tmp_path / "stars.csv"))[0].yaxis_inverted()
    with pytest.raises(XpjaxError, match=r"xp\.parquet: no source 1 among 8"):
        plot.plot_file(tmp_path / "xp.parquet", [1])
    with pytest.raises(XpjaxError, match="no source 1 among 8"):
        plot.plot_file(tmp_path / "stars.csv", [1])
    with pytest.raises(XpjaxError, match="bands= chooses magnitudes"):
        plot.plot_file(tmp_path / "xp.parquet", bands=["g"])
    with pytest.raises(XpjaxError, match="spectra are drawn over each other, photometry is not"):
        plot.plot_file([tmp_path / "stars.csv", tmp_path / "xp.parquet"])
    xpjax.write(tmp_path / "better.h5", xpjax.spectra(sources, correction="standard"))
    both = plot.plot_file([tmp_path / "xp.parquet", tmp_path / "better.h5"], sources.source_id[:1].tolist())
    assert legend(both)[:2] == ["xp", "better"]
    with pytest.raises(XpjaxError, match="system= marks bands under spectra"):
        plot.plot_file(tmp_path / "stars.csv", system="JPLUS")
