"""The record of sampled spectra: rows, tables of other packages, and what is passed on."""

import dataclasses

import numpy as np
import pytest

import xpjax
from xpjax.core.records import Catalogue
from xpjax.xp import Spectra


@pytest.fixture(scope="module", params=[False, True], ids=["absolute", "internal"])
def spectra(request: pytest.FixtureRequest) -> Spectra:
    sources = xpjax.simulate_sources(4, seed=2)
    grid = np.linspace(10, 50, 20) if request.param else np.linspace(400, 900, 20)
    made = xpjax.spectra(sources, grid, internal=request.param, correlation=True)
    return dataclasses.replace(made, passed=Catalogue({"ra": sources.columns["ra"]}, {"ra": "deg"}))


def test_rows(spectra: Spectra) -> None:
    found = spectra[np.array([2, 0])]
    np.testing.assert_array_equal(found.flux, spectra.flux[[2, 0]])
    np.testing.assert_array_equal(found.columns["ra"], spectra.columns["ra"][[2, 0]])
    np.testing.assert_array_equal(found.wavelength, spectra.wavelength)
    xp = 1 if spectra.internal else None
    np.testing.assert_array_equal(found.covariance(0, xp), spectra.covariance(2, xp))
    assert len(spectra[3]) == 1


def test_tables_have_units_and_what_is_passed_on(spectra: Spectra) -> None:
    table = spectra.to_table()
    n_xp = 2 if spectra.internal else 1
    assert len(table) == 4 * n_xp
    assert table["flux"].unit == ("electron / s" if spectra.internal else "W / (m2 nm)")
    assert table["ra"].unit == "deg"
    np.testing.assert_array_equal(table["ra"][::n_xp], spectra.columns["ra"])
    np.testing.assert_array_equal(table.meta["wavelength"], spectra.wavelength)
    assert ("xp" in table.colnames) == spectra.internal
    assert f"<b>Spectra</b>: {4 * n_xp} rows" in spectra._repr_html_()
    assert len(repr(spectra)) < 1000


def test_kept_columns_may_not_be_those_of_spectra(spectra: Spectra) -> None:
    assert "name" in spectra.catalogue({"name": np.array(list("abcd"))}).columns
    with pytest.raises(ValueError, match="cannot keep columns"):
        spectra.catalogue({"FLUX": np.zeros(4)})


def test_figures(spectra: Spectra) -> None:
    figure = spectra.plot(spectra.source_id[:2].tolist())
    assert len(figure.axes) == 2
