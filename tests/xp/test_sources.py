"""Tables of sources: rows, tables of other packages, and what joining does with what is missing."""

import dataclasses

import numpy as np
import pytest

import xpjax
from xpjax.xp import SourceTable, XPCoefficients
from xpjax.xp.sources import concatenate


@pytest.fixture(scope="module")
def stars() -> SourceTable:
    return xpjax.simulate_sources(6, seed=4)


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([4, 0]), np.arange(6) > 3, 2, -1])
def test_rows(stars: SourceTable, rows: slice | np.ndarray | int) -> None:
    found = stars[rows]
    expected = np.atleast_1d(stars.source_id[rows])
    np.testing.assert_array_equal(found.source_id, expected)
    np.testing.assert_array_equal(found.columns["ra"], np.atleast_1d(stars.columns["ra"][rows]))
    np.testing.assert_array_equal(found.coefficients.correlation, np.atleast_2d(stars.coefficients.correlation[rows]))
    assert found.release == stars.release
    with pytest.raises(IndexError):
        stars[6]


def test_tables_have_units_and_descriptions(stars: SourceTable) -> None:
    table = stars.to_table()
    assert table["ra"].unit == "deg"
    assert table["phot_g_mean_mag"].unit == "mag"
    assert table["bp_coefficients"].shape == (6, 55)
    assert "coefficients of the RP spectrum" in table["rp_coefficients"].description
    assert stars.to_pandas()["source_id"].tolist() == stars.source_id.tolist()
    assert stars.to_arrow().num_rows == 6
    assert "<b>SourceTable</b>: 6 rows" in stars._repr_html_()


def test_joining_fills_what_a_part_lacks(stars: SourceTable) -> None:
    c = stars.coefficients
    bare = dataclasses.replace(stars[:2], coefficients=XPCoefficients(c.value[:2]), columns={})
    whole = concatenate([stars, bare], "both")
    assert len(whole) == 8
    assert whole.origin == "both"
    assert np.isnan(whole.coefficients.error[6:]).all()
    assert np.isnan(whole.columns["ra"][6:]).all()
    assert (whole.coefficients.n_relevant[6:] == 55).all()
    np.testing.assert_array_equal(whole.coefficients.value[:6], c.value)
    assert whole.coefficients.value.ctypes.data % 64 == 0


def test_joining_without_filling_drops_what_a_part_lacks(stars: SourceTable) -> None:
    bare = dataclasses.replace(stars[:2], coefficients=XPCoefficients(stars.coefficients.value[:2]))
    whole = concatenate([stars, bare], "both", fill=False)
    assert whole.coefficients.error is None
    assert whole.coefficients.n_relevant is None
    np.testing.assert_array_equal(whole.source_id[6:], stars.source_id[:2])
