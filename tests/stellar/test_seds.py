"""Spectra in files of every kind are observed as the arrays that they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table

import xpjax
from xpjax.stellar import StellarGrid, build_grid, fit_labels, observe_files, write_grid
from xpjax.stellar.libraries.library import to_vacuum

X = np.arange(300.0, 1100.1, 1.0)
FLUX = 1e-16 * (550 / X) ** 5 * np.exp(-2600 / X) * (1 - 0.2 * np.exp(-0.5 * ((X - 517) / 5) ** 2))
PLAIN = xpjax.observe(X, FLUX, g_mag=15.0).coefficients.value


def near(path: Path | list[Path], value: np.ndarray = PLAIN, rtol: float = 1e-9, **options: Any) -> xpjax.SourceTable:
    """The sources of a file, whose coefficients have to be these."""
    sources = observe_files(path, **{"g_mag": 15.0, **options})
    assert sources.coefficients.value.shape == value.shape
    assert np.abs(sources.coefficients.value - value).max() < rtol * np.abs(value).max()
    return sources


def test_one_spectrum(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "plain.txt", np.stack([10 * X, 3 * FLUX], axis=1))
    assert near(tmp_path / "plain.txt", unit="Angstrom", medium="vacuum").columns["spectrum"].tolist() == ["plain"]
    Table({"wavelength": X * 10, "flux": FLUX}, units={"wavelength": "Angstrom", "flux": "W m-2 nm-1"}).write(
        tmp_path / "s.ecsv"
    )
    near(tmp_path / "s.ecsv")
    absolute = observe_files(tmp_path / "s.ecsv")
    assert np.allclose(absolute.coefficients.value, xpjax.observe(X, FLUX).coefficients.value, rtol=1e-9)
    np.savetxt(tmp_path / "cgs.txt", np.stack([X, 100 * FLUX], axis=1))
    cgs = observe_files(tmp_path / "cgs.txt", unit="nm", medium="vacuum", flux_unit="erg s-1 cm-2 AA-1")
    assert np.allclose(cgs.coefficients.value, absolute.coefficients.value, rtol=1e-9)
    hdu = fits.BinTableHDU(Table({"WAVELENGTH": X * 10, "FLUX": FLUX}, units={"WAVELENGTH": "Angstrom"}))
    hdu.writeto(tmp_path / "s.fits")
    near(tmp_path / "s.fits", medium="vacuum")
    np.savetxt(tmp_path / "nu.txt", np.stack([X, FLUX * X**2], axis=1))
    near(tmp_path / "nu.txt", unit="nm", medium="vacuum", per="frequency")
    air = to_vacuum(X)
    near(tmp_path / "plain.txt", xpjax.observe(air, FLUX, g_mag=15.0).coefficients.value, unit="Angstrom", medium="air")


def test_many_spectra(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.txt", np.stack([X, FLUX], axis=1))
    np.savetxt(tmp_path / "b.txt", np.stack([X, FLUX * X], axis=1))
    both = [tmp_path / name for name in ("a.txt", "b.txt")]
    options = {"unit": "nm", "medium": "vacuum"}
    red = xpjax.observe(X, FLUX * X, g_mag=15.0).coefficients.value
    sources = near(both, np.concatenate([PLAIN, red]), **options)
    assert sources.source_id.tolist() == [1, 2]
    assert sources.columns["spectrum"].tolist() == ["a", "b"]
    noisy = observe_files([both[0], both[0]], g_mag=15.0, noise=5, **options).coefficients.value
    assert np.array_equal(noisy[0], observe_files(both[0], g_mag=15.0, noise=5, **options).coefficients.value[0])
    assert not np.allclose(noisy[0], noisy[1], rtol=1e-6)
    grid = np.arange(330.0, 1050.1, 2.0)
    spectra = xpjax.spectra(xpjax.simulate_sources(4, seed=1), grid, errors=False, float64=True)
    xpjax.write(tmp_path / "spectra.h5", spectra)
    observed = observe_files(tmp_path / "spectra.h5")
    assert np.array_equal(observed.source_id, spectra.source_id)
    again = xpjax.spectra(observed, grid, errors=False, float64=True).flux
    inside = (spectra.wavelength > 400) & (spectra.wavelength < 1000)
    assert np.abs(again - spectra.flux)[:, inside].max() < 0.03 * spectra.flux.max()


def test_grids_and_libraries(tmp_path: Path, shared: Callable[[str], Path]) -> None:
    teff = np.array([4000.0, 5000.0, 6000.0])
    models = np.stack([(550 / X) ** 5 * np.exp(-14387769 / X / t) for t in teff])
    models /= models.mean(axis=1, keepdims=True)
    write_grid(StellarGrid((teff,), models, X, ("teff",)), tmp_path / "grid.h5")
    direct = xpjax.observe(X, models, g_mag=15.0).coefficients.value
    assert near(tmp_path / "grid.h5", direct).columns["teff"].tolist() == [4000, 5000, 6000]
    assert near(tmp_path / "grid.h5", direct[1:], limits={"teff": (5000, None)}).columns["teff"].tolist() == [
        5000,
        6000,
    ]
    nextgen = shared("grids/nextgen/nextgen_1nm_300_1100.npz")
    limits = {"teff": (5000, 6000, 200), "logg": (4.5, 5), "mh": (0, 0)}
    sources = observe_files(nextgen, limits=limits, g_mag=15.0)
    assert len(sources) == 12
    made = build_grid("nextgen", nextgen, resolution="own", sampling="coefficients", limits=limits)
    write_grid(made, tmp_path / "c.h5")
    again = observe_files(tmp_path / "c.h5", g_mag=15.0)
    seen = xpjax.load_instrument().default_design
    one, other = (s.coefficients.value @ seen for s in (sources, again))
    assert np.abs(other / one.mean(axis=1, keepdims=True) - one / one.mean(axis=1, keepdims=True)).max() < 0.05
    ck = observe_files(shared("grids/ck04/ckp00"), limits={"teff": (5000, 5250), "logg": (4, 4.5)}, g_mag=15.0)
    assert sorted(set(ck.columns["logg"].tolist())) == [4.0, 4.5]


@pytest.mark.slow
def test_a_grid_of_coefficients_is_fitted_by_noisy_sources(shared: Callable[[str], Path]) -> None:
    """Labels come back, and chi2 is one for each coefficient: the overlap of BP and RP is as sources have it."""
    nextgen = shared("grids/nextgen/nextgen_1nm_300_1100.npz")
    limits = {"teff": (5000, 6000, 200), "logg": (4.5, 5), "mh": (0, 0)}
    made = build_grid("nextgen", nextgen, resolution="own", sampling="coefficients", limits=limits)
    noisy = observe_files(nextgen, limits=limits, g_mag=14.0, noise=1)
    value, error = noisy.coefficients.value, noisy.coefficients.error
    fit = fit_labels(value, error, made, normalization="scale")
    assert np.abs(fit.labels[:, 0] - noisy.columns["teff"]).max() < 60
    assert 0.5 < np.median(fit.chi2) / made.flux.shape[-1] < 1.5


def test_what_files_do_not_say_is_asked_for(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.txt", np.stack([X, FLUX], axis=1))
    np.savetxt(tmp_path / "short.txt", np.stack([X[60:], FLUX[60:]], axis=1))
    (tmp_path / "b.csv").write_text("source_id\n1\n")
    how = {"unit": "nm", "medium": "vacuum", "g_mag": 15.0}
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("a.txt", "no unit of wavelengths", {"medium": "vacuum", "g_mag": 15.0}),
        ("a.txt", "whether wavelengths are in air", {"unit": "nm", "g_mag": 15.0}),
        ("a.txt", "in which unit its fluxes are: give g_mag= or flux_unit=", {"unit": "nm", "medium": "vacuum"}),
        ("a.txt", "none of a flux", {**how, "flux_unit": "km"}),
        ("a.txt", "limits are for libraries", {**how, "limits": {"teff": (1, 2)}}),
        ("a.txt", "medium='water'", {**how, "medium": "water"}),
        ("short.txt", "short.txt: the spectra cover 360..1100 nm", how),
    ]
    for name, message, options in cases:
        with pytest.raises(xpjax.XpjaxError, match=message):
            observe_files(tmp_path / name, **options)
    assert len(observe_files(tmp_path / "short.txt", extend=True, **how)) == 1
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        observe_files(tmp_path / "nothing.txt")
    with pytest.raises(xpjax.XpjaxError):
        observe_files(tmp_path / "b.csv", g_mag=15.0)
    with pytest.raises(xpjax.XpjaxError, match="no files"):
        observe_files([])


def written(path: Path, ids: list[int], x: np.ndarray = X, factor: Any = 1.0, **unit: str) -> Path:
    """A table of spectra by source_id, whose columns state the units given."""
    n = len(ids)
    table = Table({"source_id": ids, "wavelength": np.tile(x, (n, 1)), "flux": np.tile(FLUX * factor, (n, 1))})
    for name, word in unit.items():
        table[name].unit = word
    table.write(path, format="votable")
    return path


def test_what_is_said_of_tables_with_ids(tmp_path: Path) -> None:
    """Units, medium and per are taken where the file states none, and refused by both names where it says otherwise."""
    plain = written(tmp_path / "plain.vot", [7, 9])
    both, absolute = np.concatenate([PLAIN, PLAIN]), xpjax.observe(X, FLUX).coefficients.value
    near(plain, both)
    near(written(tmp_path / "aa.vot", [7, 9], 10 * X), both, unit="Angstrom")
    near(written(tmp_path / "nu.vot", [7, 9], factor=X**2), both, per="frequency")
    near(plain, np.tile(xpjax.observe(to_vacuum(X), FLUX, g_mag=15.0).coefficients.value, (2, 1)), medium="air")
    jansky = (units.W / units.m**2 / units.nm).to("Jy", FLUX, equivalencies=units.spectral_density(X * units.nm)) / FLUX
    bare = written(tmp_path / "jy.vot", [7], 10 * X, jansky)
    near(bare, absolute, 1e-7, unit="Angstrom", flux_unit="Jy", g_mag=None)
    near(bare, absolute, 1e-7, unit="Angstrom", flux_unit="Jy", per="frequency", g_mag=None)
    told = written(tmp_path / "told.vot", [7], 10 * X, jansky, wavelength="Angstrom", flux="Jy")
    near(told, absolute, 1e-7, unit="Angstrom", flux_unit="Jy", per="frequency", medium="vacuum", g_mag=None)
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (told, {"unit": "nm"}, "are in Angstrom, which contradicts unit= nm"),
        (told, {"flux_unit": "W m-2 nm-1"}, "is in Jy, which contradicts flux_unit= W m-2 nm-1"),
        (told, {"per": "wavelength"}, "the unit Jy of its flux contradicts per='wavelength'"),
        (plain, {"unit": "Jy"}, "unit= is the unit 'Jy', which is none of a wavelength"),
        (plain, {"flux_unit": "Jy", "per": "wavelength"}, "per='wavelength' contradicts flux_unit='Jy', .* frequency"),
        (plain, {"flux_unit": "none"}, "flux_unit= 'none' is no unit"),
        (tmp_path / "nu.vot", {"per": "frequency", "g_mag": None}, "in which unit its fluxes are"),
    ]
    for path, options, message in cases:
        with pytest.raises(xpjax.XpjaxError, match=message):
            observe_files(path, **{"g_mag": 15.0, **options})
    made = xpjax.spectra(xpjax.simulate_sources(2, seed=1), np.arange(330.0, 1051.0, 2.0), errors=False)
    xpjax.write(tmp_path / "own.h5", made)
    for options, message in (
        ({"medium": "air"}, "a file of xpjax contradicts medium='air'"),
        ({"unit": "um"}, "in nm,"),
    ):
        with pytest.raises(xpjax.XpjaxError, match=message):
            observe_files(tmp_path / "own.h5", **options)


def test_what_is_said_of_one_spectrum_and_of_models(tmp_path: Path) -> None:
    """A unit that a file states is taken; another one is refused, and one of fluxes for models too."""
    absolute = xpjax.observe(X, FLUX).coefficients.value
    for name, word in (("a.fits", "FLAM"), ("b.fits", "erg/s/cm2/AA")):
        columns = [("WAVELENGTH", 10 * X, "Angstrom"), ("FLUX", 100 * FLUX, word)]
        made = [fits.Column(name=key, format="D", array=array, unit=unit) for key, array, unit in columns]
        fits.BinTableHDU.from_columns(made).writeto(tmp_path / name)
        near(tmp_path / name, absolute, medium="vacuum", g_mag=None)
        with pytest.raises(xpjax.XpjaxError, match=r"TUNIT2 = .* contradicts .*Jy"):
            observe_files(tmp_path / name, medium="vacuum", flux_unit="Jy")
    rows = Table({"Wavelength": X * 10, "FLUX": FLUX}, units={"Wavelength": "Angstrom", "FLUX": "W m-2 nm-1"})
    rows.write(tmp_path / "rows.ecsv")
    near(tmp_path / "rows.ecsv", absolute, g_mag=None)
    with pytest.raises(xpjax.XpjaxError, match=r"in Angstrom, which contradicts unit= nm"):
        observe_files(tmp_path / "rows.ecsv", unit="nm")
    with pytest.raises(xpjax.XpjaxError, match=r"'FLUX' in W .* contradicts flux_unit='Jy'"):
        observe_files(tmp_path / "rows.ecsv", flux_unit="Jy")
    teff = np.array([4000.0, 5000.0])
    write_grid(StellarGrid((teff,), np.stack([FLUX, FLUX]) / FLUX.mean(), X, ("teff",)), tmp_path / "grid.h5")
    for options in ({"flux_unit": "Jy"}, {"unit": "nm"}, {"medium": "air"}, {"per": "frequency"}):
        with pytest.raises(xpjax.XpjaxError, match=f"holds models.*leave out {next(iter(options))}="):
            observe_files(tmp_path / "grid.h5", g_mag=15.0, **options)
    with pytest.raises(xpjax.XpjaxError, match=r"holds models, .*by g_mag=$"):
        observe_files(tmp_path / "grid.h5")


def test_headings_of_text(tmp_path: Path) -> None:
    """Names above two columns, in any case; a table of something else says what is expected."""
    lines = "\n".join(f"{10 * x!r},{y!r}" for x, y in zip(X.tolist(), FLUX.tolist(), strict=True))
    for name, heading in (("a.csv", "Wavelength,Flux"), ("b.txt", "WAVELENGTH,FLUX")):
        (tmp_path / name).write_text(f"{heading}\n{lines}\n")
        near(tmp_path / name, unit="Angstrom", medium="vacuum")
    (tmp_path / "d.txt").write_text(f"wave_vac_AA,flux\n{lines}\n")
    near(tmp_path / "d.txt")
    with pytest.raises(xpjax.XpjaxError, match=r"the heading 'wave_vac_AA' contradicts unit='nm'"):
        observe_files(tmp_path / "d.txt", unit="nm")
    (tmp_path / "e.txt").write_text(f"Wavelength,Flux_Jy\n{lines}\n")
    with pytest.raises(xpjax.XpjaxError, match="line 1: expected numbers"):
        observe_files(tmp_path / "e.txt", unit="Angstrom", medium="vacuum")
    Table({"wavelength": [X], "calspec_spectrum": [FLUX]}).write(tmp_path / "pairs.parquet")
    with pytest.raises(
        xpjax.XpjaxError, match=r"has wavelength, calspec_spectrum; expected wavelength and flux, .*rename"
    ):
        observe_files(tmp_path / "pairs.parquet", g_mag=15.0)


def test_ids_of_several_files(tmp_path: Path) -> None:
    """Ids stay, those that come again are flagged, and files without are numbered by what no other source has."""
    np.savetxt(tmp_path / "a.txt", np.stack([X, FLUX], axis=1))
    one, other = written(tmp_path / "one.vot", [2, 9, 0]), written(tmp_path / "other.vot", [9, 3])
    text, how = tmp_path / "a.txt", {"unit": "nm", "medium": "vacuum", "g_mag": 15.0}
    made = observe_files([text, one, text, other], **how)
    assert made.source_id.tolist() == [1, 2, 9, 0, 4, 9, 3]
    again, missing = int(xpjax.Status.DUPLICATE), int(xpjax.Status.ID_MISSING)
    assert made.status.tolist() == [0, 0, 0, missing, 0, again, 0]
    alone = observe_files(written(tmp_path / "twice.vot", [5, 5]), g_mag=15.0)
    assert alone.source_id.tolist() == [5, 5]
    assert alone.status.tolist() == [0, again]


def test_seeds_of_several_files(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.txt", np.stack([X, FLUX], axis=1))
    how = {"unit": "nm", "medium": "vacuum", "g_mag": 15.0}
    files = [tmp_path / "a.txt"] * 2
    first, second = (observe_files(files, noise=(1, k), **how).coefficients.value for k in (2, 3))
    assert not np.allclose(first[1], second[1], rtol=1e-6)
    with pytest.raises(xpjax.XpjaxError, match=r"noise= is 1\.5; expected a seed"):
        observe_files(files, noise=1.5, **how)
