"""Results as tables of astropy, pandas and Arrow, and in a notebook: values, units, descriptions, flags."""

import json
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.io.test_catalogue import made, same
from xpjax.core.records import Catalogue
from xpjax.core.status import FitStatus, Status
from xpjax.io.catalogue import read_catalogue
from xpjax.io.results import TableResult, html_view


class Made(TableResult):
    """A result of the columns of a catalogue."""

    bits = Status

    def __init__(self, catalogue: Catalogue) -> None:
        self.made = catalogue

    def catalogue(self) -> Catalogue:
        return self.made


def test_astropy_has_units_descriptions_and_metadata() -> None:
    expected = made()
    table = Made(expected).to_table()
    assert all(same(column, np.asarray(table[name])) for name, column in expected.columns.items())
    assert table["flux"].unit == "W m-2 nm-1"
    assert table["name"].unit is None
    assert table["xp_status"].description == "bits, see xpjax.Status"
    assert table.meta["inputs"] == ["a.csv", "b.csv"]
    assert np.array_equal(table.meta["wavelength"], expected.shared["wavelength"])


def test_an_unknown_unit_is_kept() -> None:
    assert str(Made(Catalogue({"a": np.zeros(1)}, {"a": "furlong"})).to_table()["a"].unit) == "furlong"


def test_pandas_has_units_aside() -> None:
    expected = made()
    frame = Made(expected).to_pandas()
    assert list(frame) == list(expected.columns)
    assert frame["source_id"].dtype == np.int64
    assert np.array_equal(frame["flux"][1], expected.columns["flux"][1])
    assert frame.attrs["units"]["Sdss_mag_g"] == "mag"


def test_arrow_is_the_parquet_file(tmp_path: Path) -> None:
    import pyarrow.parquet

    xpjax.write(tmp_path / "a.parquet", Made(made()))
    read = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    table = Made(made()).to_arrow()
    assert table.schema.metadata == read.schema.metadata
    assert [f.metadata for f in table.schema] == [f.metadata for f in read.schema]
    assert json.loads(table.schema.metadata[b"xpjax"])["meta"]["release"] == "Gaia DR3"


@pytest.mark.parametrize("kind", ["to_table", "to_arrow", "to_pandas"])
def test_tables_in_memory_are_read_back(kind: str) -> None:
    expected = made()
    found = read_catalogue(getattr(Made(expected), kind)())
    assert list(found.columns) == list(expected.columns)
    assert all(same(column, found.columns[name]) for name, column in expected.columns.items())
    assert found.units["Sdss_mag_g"] == "mag"
    if kind != "to_pandas":  # which knows columns and nothing else
        assert found.descriptions == expected.descriptions
        assert found.meta == expected.meta
        assert np.array_equal(found.shared["wavelength"], expected.shared["wavelength"])


def test_html_has_the_first_rows_and_is_escaped() -> None:
    shown = Made(made(30))._repr_html_()
    assert "<b>Made</b>: 30 rows, 8 columns" in shown
    assert shown.count("<tr>") == 2 + 8
    assert "Shown: 8 rows, 8 columns" in shown
    assert "[5 values]" in shown
    assert "W m-2 nm-1" in shown
    assert "M 31, &quot;Andromeda&quot;" in shown
    assert 'Andromeda"' not in shown


def test_html_says_what_flags_mean() -> None:
    status = np.array([0, 1, 1, 256], np.uint32)
    table = Catalogue({"xp_status": status, "other": status}, descriptions={"xp_status": Status.legend()})
    shown = html_view("Made", table, Status)
    assert "BP_MISSING (2): No BP coefficients; quantities that depend on BP are NaN." in shown
    assert "NONPOSITIVE_FLUX (1)" in shown
    assert "RP_MISSING" not in shown.partition("</table>")[2]
    assert "other:" not in shown
    by_name = html_view("Made", table, {"other": FitStatus, "absent": Status})
    assert "other: " in by_name
    assert "EDGE (2): At least one label is" in by_name
    assert "xp_status: none set" in html_view("Made", Catalogue({"xp_status": status[:1]}), {"xp_status": Status})


def test_results_of_xpjax_are_tables() -> None:
    sources = xpjax.simulate_sources(4, seed=1)
    stars = xpjax.photometry(sources, "SDSS")
    assert stars.to_table()["Sdss_mag_g"].unit == "mag"
    spectra = xpjax.spectra(sources)
    assert spectra.to_table()["flux"].shape == spectra.flux.shape
    assert "xp_status" in stars._repr_html_()
