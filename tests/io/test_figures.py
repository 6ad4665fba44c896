"""What figures share: any table is drawn, units are as axes show them, files are whole."""

from pathlib import Path

import numpy as np
import pytest

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import columns_of, write
from xpjax.io.figures import bracket, check_figure, new_figure, spectral_color, write_figure
from xpjax.io.results import arrow_table, astropy_table


def test_columns_of_any_table(tmp_path: Path) -> None:
    given = Catalogue({"flux": np.ones((2, 3))}, {"flux": "mag"}, shared={"wavelength": np.arange(3.0)})
    write(tmp_path / "a.fits", given)
    for source in (given, astropy_table(given), arrow_table(given), tmp_path / "a.fits", str(tmp_path / "a.fits")):
        found = columns_of(source)
        assert np.array_equal(found.columns["flux"], given.columns["flux"])
        assert np.array_equal(found.shared["wavelength"], given.shared["wavelength"])
        assert found.units["flux"] == "mag"


def test_units_on_axes() -> None:
    assert bracket("W m-2 nm-1") == r" [$\mathrm{W\,nm^{-1}\,m^{-2}}$]"
    assert bracket("furlong") == " [furlong]"
    assert bracket("") == ""


def test_colors_go_from_blue_to_red() -> None:
    blue, red = spectral_color(330), spectral_color(1050)
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert spectral_color(100) == blue


def test_a_figure_is_written_whole(tmp_path: Path) -> None:
    check_figure(tmp_path / "a.png")
    write_figure(new_figure(1, 1), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    check_figure(tmp_path / "a.png", overwrite=True)
    with pytest.raises(FileExistsError, match="exists; name another one"):
        check_figure(tmp_path / "a.png")
    with pytest.raises(XpjaxError, match=r"a\.jpg: the suffix of a figure is \.png, \.pdf or \.svg"):
        check_figure(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match="no directory"):
        check_figure(tmp_path / "none" / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
