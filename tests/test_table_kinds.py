"""Public functions take tables of every kind, numbers with units, and give results as tables of every kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.table import Column, QTable

import xpjax
from xpjax.io.results import TableResult

N = 4
GRID = np.arange(400.0, 900.0, 10.0)
KINDS: dict[str, Callable[[TableResult], Any]] = {
    "result": lambda result: result,
    "astropy": lambda result: result.to_table(),
    "quantities": lambda result: result.to_table(quantities=True),
    "pandas": lambda result: result.to_pandas(),
    "arrow": lambda result: result.to_arrow(),
    "columns": lambda result: {name: result.to_table()[name] for name in result.to_table().colnames},
}
"""What becomes of a result, which functions then take."""


@cache
def sources() -> xpjax.SourceTable:
    return xpjax.simulate_sources(N, seed=1)


@cache
def magnitudes() -> np.ndarray:
    return xpjax.photometry(sources(), "SDSS:g", errors=False)["g"]


@cache
def grid() -> xpjax.stellar.StellarGrid:
    """Black bodies, which differ in one label."""
    teff = np.array([4000.0, 5000.0, 6000.0, 7000.0])
    flux = GRID**-5.0 / np.expm1(1.4388e7 / (GRID * teff[:, None]))
    return xpjax.stellar.StellarGrid((teff,), flux / flux.mean(axis=1, keepdims=True), GRID, ("teff",))


@cache
def fitter() -> xpjax.stellar.LabelFitter:
    return xpjax.stellar.LabelFitter(grid(), "none", ebv=0.0, error_floor=0.05)


OF_SOURCES: dict[str, Callable[[Any], Any]] = {
    "read": lambda table: xpjax.read(table).coefficients.value,
    "photometry": lambda table: xpjax.photometry(table, "SDSS").magnitude_error,
    "photometry, tied": lambda table: xpjax.photometry(table, "SDSS", tie="G", keep="bp_rp").magnitude,
    "spectra": lambda table: xpjax.spectra(table, GRID, keep=["ra"]).flux_error,
    "covariance_matrix": lambda table: xpjax.covariance_matrix(table, "bp"),
    "fit_passband": lambda table: (
        xpjax.fit_passband(table, magnitudes(), 0.01, "sdss2010:g", ["zero_point"]).covariance
    ),
    "labels": lambda table: fitter()(table).fit.labels,
    "fetch's ids": lambda table: ids_of(table),
}
OF_SPECTRA: dict[str, Callable[[Any], Any]] = {
    "read_spectra": lambda table: xpjax.xp.read_spectra(table).flux,
    "read_table": lambda table: np.asarray(xpjax.read_table(table)["flux"]),
    "plot_spectra": lambda table: len(xpjax.plot.plot_spectra(table).axes),
}
OF_PHOTOMETRY: dict[str, Callable[[Any], Any]] = {
    "read_table": lambda table: np.asarray(xpjax.read_table(table)["Sdss_mag_g"]),
    "plot_photometry": lambda table: len(xpjax.plot.plot_photometry(table).axes),
}


def ids_of(table: Any) -> np.ndarray:
    from xpjax.xp import wanted_ids

    return wanted_ids(table)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OF_SOURCES)
def test_sources_may_be_any_table(name: str, kind: str) -> None:
    function = OF_SOURCES[name]
    np.testing.assert_array_equal(function(KINDS[kind](sources())), function(sources()))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "columns"])
@pytest.mark.parametrize("name", OF_SPECTRA)
def test_spectra_may_be_any_table_that_holds_the_wavelengths(name: str, kind: str) -> None:
    made, function = xpjax.spectra(sources(), GRID), OF_SPECTRA[name]
    np.testing.assert_array_equal(function(KINDS[kind](made)), function(made))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OF_PHOTOMETRY)
def test_photometry_may_be_any_table(name: str, kind: str) -> None:
    made, function = xpjax.photometry(sources(), "SDSS"), OF_PHOTOMETRY[name]
    np.testing.assert_array_equal(function(KINDS[kind](made)), function(made))


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_every_kind_are_written(kind: str, tmp_path: Path) -> None:
    xpjax.write(tmp_path / "xp.parquet", KINDS[kind](sources()))
    np.testing.assert_array_equal(xpjax.read(tmp_path / "xp.parquet").coefficients.value, sources().coefficients.value)


def test_quantities_come_on_request() -> None:
    made = xpjax.spectra(sources(), GRID)
    table = made.to_table(quantities=True)
    assert isinstance(table, QTable)
    assert isinstance(table["flux"], u.Quantity)
    np.testing.assert_allclose(table["flux"].to_value("erg s-1 cm-2 AA-1"), made.flux * 100, rtol=1e-6)
    np.testing.assert_allclose(table.meta["wavelength"].to_value("AA"), GRID * 10, rtol=1e-14)
    stars = xpjax.photometry(sources(), "SDSS").to_table(quantities=True)
    assert stars["Sdss_mag_g"].unit == u.mag
    assert stars["Sdss_flux_g"].to("Jy").unit == u.Jy
    assert not isinstance(made.to_table()["flux"], u.Quantity)


@pytest.mark.parametrize(
    "given",
    [
        lambda m: Column(m, unit="mag"),
        lambda m: pd.Series(m),
        lambda m: pa.array(m),
        lambda m: m * u.mag,
        lambda m: m * 1000 * u.mmag,
        lambda m: u.Magnitude(m),
        lambda m: m * u.ABmag,
    ],
    ids=["Column", "Series", "Arrow", "mag", "mmag", "Magnitude", "ABmag"],
)
def test_magnitudes_may_have_units(given: Callable[[np.ndarray], Any]) -> None:
    observed = magnitudes().astype(float) + 0.05
    plain = xpjax.fit_passband(sources(), observed, 0.01, "sdss2010:g", ["zero_point"])
    found = xpjax.fit_passband(sources(), given(observed), 10 * u.mmag, "sdss2010:g", ["zero_point"])
    np.testing.assert_allclose(found.value, plain.value, rtol=1e-5)
    assert plain.value[0] == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(
    "given",
    [
        lambda table: (table["flux"], table["flux_error"]),
        lambda table: (table["flux"].quantity, table["flux_error"].quantity.to("erg s-1 cm-2 AA-1")),
        lambda table: (table["flux"].quantity, table["flux_error"].data),
        lambda table: (pd.Series(list(table["flux"].data)), pd.Series(list(table["flux_error"].data))),
        lambda table: (pa.array(list(table["flux"].data)), pa.array(list(table["flux_error"].data))),
        lambda table: (np.ma.masked_array(table["flux"].data), table["flux_error"].data.tolist()),
    ],
    ids=["Column", "other unit", "Quantity", "Series", "Arrow", "masked"],
)
def test_spectra_that_are_fitted_may_have_units(given: Callable[[Any], Any]) -> None:
    table = xpjax.spectra(sources(), GRID).to_table()
    plain = xpjax.stellar.fit_labels(table["flux"].data, table["flux_error"].data, grid())
    found = xpjax.stellar.fit_labels(*given(table), grid())
    np.testing.assert_allclose(found.labels, plain.labels, rtol=1e-5)
    np.testing.assert_allclose(found.chi2, plain.chi2, rtol=1e-4)
    with pytest.raises(xpjax.XpjaxError, match="error has the unit"):
        xpjax.stellar.fit_labels(table["flux"].data, table["flux_error"].quantity, grid())


def test_wavelengths_and_parameters_may_have_units() -> None:
    expected = xpjax.spectra(sources(), GRID).flux
    np.testing.assert_array_equal(xpjax.spectra(sources(), GRID * 10 * u.AA).flux, expected)
    np.testing.assert_array_equal(xpjax.sampled_spectra(sources().coefficients.value, GRID * 10 * u.AA).shape, (N, 50))
    chain = xpjax.synthetic.read_chain("minisitian")
    moved = chain.with_parameters(water=0.5 * u.cm, filter_shift=10 * u.AA, pressure=0.9 * u.bar)
    same = chain.with_parameters(water=5.0, filter_shift=1.0, pressure=900.0)
    np.testing.assert_allclose(moved.curves(), same.curves(), rtol=1e-6)
    with pytest.raises(xpjax.XpjaxError, match="water has the unit s"):
        chain.with_parameters(water=5 * u.s)
    with pytest.raises(xpjax.XpjaxError, match="magnitude has the unit nm"):
        xpjax.fit_passband(sources(), magnitudes() * u.nm, 0.01, "sdss2010:g")


def test_one_spectrum_is_drawn_in_three_lines() -> None:
    stars = xpjax.simulate_sources(1, seed=1)
    spectrum = xpjax.spectra(stars)
    figure = spectrum.plot()
    assert any(axes.collections for axes in figure.axes), "no band of errors"


def test_columns_are_kept_with_their_units() -> None:
    stars: Mapping[str, xpjax.Photometry] = {
        "photometry": xpjax.photometry(sources(), "SDSS", keep=["bp_rp", "ra"]),
        "spectra": xpjax.spectra(sources(), GRID, keep=["bp_rp", "ra"]),  # type: ignore[dict-item]
    }
    for made in stars.values():
        table = made.to_table()
        np.testing.assert_array_equal(table["bp_rp"], sources().columns["bp_rp"])
        assert table["ra"].unit == "deg"
        assert len(made[:2].passed) == 2
    with pytest.raises(xpjax.XpjaxError, match=r"no columns \['nothing'\]; it has"):
        xpjax.photometry(sources(), "SDSS", keep="nothing")


@pytest.mark.slow
def test_photometry_has_what_the_command_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same options give the same table, in Python and on the command line."""
    from click.testing import CliRunner

    from xpjax.cli import main

    monkeypatch.chdir(tmp_path)
    xpjax.write("xp.parquet", sources())
    words = (
        "photometry xp.parquet --system SDSS --passbands minisitian --correction standard --tie G --extrapolate linear"
    )
    done = CliRunner().invoke(main, [*words.split(), "--keep", "bp_rp,ra", "-o", "mags.parquet"])
    assert done.exit_code == 0, done.output
    own = xpjax.photometry(
        "xp.parquet", ["SDSS", xpjax.load_passbands("minisitian")], correction="standard", tie="G",
        extrapolate="linear", keep=["bp_rp", "ra"],
    )  # fmt: skip
    written, table = xpjax.read_table("mags.parquet"), own.to_table()
    assert table.colnames == written.colnames
    for name in table.colnames:
        np.testing.assert_array_equal(table[name], written[name])


def test_ids_stand_in_the_place_of_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fetch(ids: Any, release: Any) -> xpjax.SourceTable:
        asked.append((list(ids), release.name))
        return sources()

    monkeypatch.setattr("xpjax.xp.asked.fetch", fetch)
    found = xpjax.photometry(ids=[1, 2], system="SDSS", keep="ra")
    np.testing.assert_array_equal(found.magnitude, xpjax.photometry(sources(), "SDSS").magnitude)
    np.testing.assert_array_equal(xpjax.spectra(ids=[3]).flux, xpjax.spectra(sources()).flux)
    assert asked == [([1, 2], "Gaia DR3"), ([3], "Gaia DR3")]
    for wrong, said in (({}, "neither of sources and ids="), ({"sources": sources(), "ids": [1]}, "both of")):
        with pytest.raises(xpjax.XpjaxError, match=said):
            xpjax.photometry(system="SDSS", **wrong)
    with pytest.raises(xpjax.XpjaxError, match="name a photometric system"):
        xpjax.photometry(sources())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"terms": "terms.txt"}, "terms is for tie"),
        ({"ebv": "ebv"}, "are for networks"),
        ({"tie": "V"}, "'V' is not one of"),
        ({"correction": "no.h5"}, "no.h5"),
        ({"colour": 1}, "colour"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises((xpjax.XpjaxError, FileNotFoundError, TypeError), match=said):
        xpjax.photometry(sources(), "SDSS", **options)


@pytest.mark.slow
def test_a_network_takes_ebv_as_a_column_or_as_numbers() -> None:
    state = {"0.weight": np.full((330, 2), 0.01), "0.bias": np.zeros(330)}
    scaler = {"mean_": [0.8, 0.1], "scale_": [0.3, 0.1]}
    model = xpjax.wiggles.network_from_torch(state, scaler, names=["BP-RP", "E(B-V)"], kind="multiplicative")
    stars = xpjax.read(xpjax.simulate_sources(N, seed=1))
    ebv = np.linspace(0.05, 0.2, N)
    named = xpjax.read({**{name: stars.to_table()[name] for name in stars.to_table().colnames}, "own": ebv})
    by_column = xpjax.photometry(named, "SDSS", correction=model, ebv="own")
    by_numbers = xpjax.photometry(stars, "SDSS", correction=model, ebv=ebv * u.mag)
    np.testing.assert_array_equal(by_column.magnitude, by_numbers.magnitude)
    assert by_numbers.meta["corrected"]
    assert np.abs(by_numbers.magnitude - xpjax.photometry(stars, "SDSS").magnitude).max() > 1e-4
    with pytest.raises(xpjax.XpjaxError, match="needs E"):
        xpjax.photometry(stars, "SDSS", correction=model)
    with pytest.raises(xpjax.XpjaxError, match="leave tie= out"):
        xpjax.photometry(stars, "SDSS", correction=model, ebv=ebv, tie="G")
