"""Spectra in files of every kind are observed as the arrays that they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
    spectra = xpjax.spectra(xpjax.simulate_sources(4, seed=1), errors=False, float64=True)
    xpjax.write(tmp_path / "spectra.h5", spectra)
    observed = observe_files(tmp_path / "spectra.h5")
    assert np.array_equal(observed.source_id, spectra.source_id)
    again = observed.coefficients.value @ xpjax.load_instrument().default_design
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
