"""Convolution and sampling against scipy's, against quadrature, and against what must be kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from scipy.integrate import quad
from scipy.ndimage import gaussian_filter1d

from xpjax.core.constants import FLUX_UNIT, SIGMA_PER_FWHM
from xpjax.stellar.libraries import read_library
from xpjax.stellar.libraries.library import ModelSpectra
from xpjax.stellar.sampling import Sampler, as_coefficients, find_resolution, find_sampling
from xpjax.xp.instrument import load_instrument

FINE = np.geomspace(300.0, 1100.0, 20001)
LOG330 = find_sampling("log330", None).wavelength


def lines(x: np.ndarray, narrow: float, wide: float, n: int = 150) -> np.ndarray:
    """A continuum with n absorption lines whose standard deviations [nm] are between two numbers."""
    rng = np.random.default_rng(5)
    flux = 1 + 0.3 * np.sin(x / 40)
    for center in rng.uniform(320, 1080, n):
        flux = flux * (1 - rng.uniform(0.1, 0.5) * np.exp(-0.5 * ((x - center) / rng.uniform(narrow, wide)) ** 2))
    return flux


def library(x: np.ndarray, flux: np.ndarray, variance: float | np.ndarray = 0.0) -> ModelSpectra:
    rows = np.atleast_2d(flux)
    return ModelSpectra(x, rows, np.zeros((len(rows), 1)), np.broadcast_to(variance, x.shape), Path("made.fits"))


def test_constant_resolution_is_scipys() -> None:
    """On a grid even in ln(lambda) the convolution is a Gaussian filter."""
    flux = lines(FINE, 0.2, 1.0)
    step = np.log(FINE[1] / FINE[0])
    at = FINE[(FINE > 360) & (FINE < 990)][::37]

    def error(power: float) -> float:
        reference = gaussian_filter1d(flux, SIGMA_PER_FWHM / 104 / step, truncate=6)[np.searchsorted(FINE, at)]
        found = Sampler(library(FINE, flux), at, find_resolution(power))(flux[None])[0]
        return float(np.abs(found / reference - 1).max())

    assert error(104) < 1e-6
    assert error(103) > 1e-3


def test_variable_resolution_is_the_integral() -> None:
    def flux(x: float | np.ndarray) -> float | np.ndarray:
        return 2 + np.sin(x / 5) - np.exp(-0.5 * ((x - 450) / 2) ** 2)

    shape = find_resolution("xp")
    at = np.array([350.0, 447.0, 610.0, 655.0, 900.0])
    coarse = np.arange(300.0, 1100.0, 0.5)
    # Summed over its samples, and integrated as cubics between them.
    found, cubic = (Sampler(library(x, flux(x)), at, shape)(flux(x)[None])[0] for x in (FINE, coarse))
    for wavelength, value, other in zip(at, found, cubic, strict=True):
        s = SIGMA_PER_FWHM / float(shape(np.array([wavelength]))[0])
        center = np.log(wavelength)

        def kernel(u: float, s: float = s, center: float = center) -> float:
            return float(flux(np.exp(u)) * np.exp(-0.5 * ((u - center) / s) ** 2) / (s * np.sqrt(2 * np.pi)))

        expected, _ = quad(kernel, center - 7 * s, center + 7 * s, epsabs=0, epsrel=1e-10, limit=200)
        assert value == pytest.approx(expected, rel=3e-6)
        assert other == pytest.approx(expected, rel=3e-5)


def test_what_is_kept() -> None:
    """A constant everywhere; a line's light to 1e-5 with constant R, and to 0.2 % within BP and within RP."""
    at = np.arange(345.0, 1030.0, 0.5)
    for power, tolerance, centers in ((104, 1e-5, (400, 600, 645, 900)), ("xp", 2e-3, (400, 500, 590, 700, 900))):
        sampler = Sampler(library(FINE, FINE), at, find_resolution(power))
        assert np.abs(sampler(np.ones((1, len(FINE)))) - 1).max() < 1e-12
        for center in centers:
            line = np.exp(-0.5 * ((FINE - center) / 0.5) ** 2)[None]
            light = np.trapezoid(sampler(line)[0], at) / np.trapezoid(line[0], FINE)
            assert light == pytest.approx(1, abs=tolerance), (power, center)


def test_bins_are_taken_off_the_kernel() -> None:
    """Means over bins, convolved with a kernel that is narrower by the bin, have the resolution asked for."""
    flux = lines(FINE, 2.5, 5.0, 60)
    total = np.append(0, np.cumsum(0.5 * (flux[1:] + flux[:-1]) * np.diff(FINE)))
    edges = np.arange(301.0, 1100.0, 2.0)
    means, centers = np.diff(np.interp(edges, FINE, total)) / 2, 0.5 * (edges[1:] + edges[:-1])
    true = Sampler(library(FINE, flux), LOG330, find_resolution(104))(flux[None])[0]

    def error(variance: float) -> float:
        found = Sampler(library(centers, means, variance), LOG330, find_resolution(104))(means[None])[0]
        return float(np.std(found / true - 1))

    assert error(4 / 12) < 6e-4
    assert error(0.0) > 4 * error(4 / 12)


def test_own_resolution_is_taken_off_the_kernel() -> None:
    flux = lines(FINE, 0.3, 1.0)
    step = np.log(FINE[1] / FINE[0])
    smoothed = gaussian_filter1d(flux, SIGMA_PER_FWHM / 200 / step, truncate=6)
    variance = (FINE * SIGMA_PER_FWHM / 200) ** 2
    true = Sampler(library(FINE, flux), LOG330, find_resolution(104))(flux[None])[0]
    found = Sampler(library(FINE, smoothed, variance), LOG330, find_resolution(104))(smoothed[None])[0]
    assert np.abs(found / true - 1).max() < 1e-5
    # A library of that resolution is taken as it is, and so is any with `own`.
    at = FINE[3000:15000:100]
    sampler = Sampler(library(FINE, smoothed, variance), at, find_resolution(200))
    assert np.allclose(sampler(smoothed[None])[0], smoothed[3000:15000:100], rtol=1e-12)
    sampler = Sampler(library(FINE, flux), at, find_resolution("own"))
    assert np.allclose(sampler(flux[None])[0], flux[3000:15000:100], rtol=1e-12)


def test_libraries_that_do_not_fit() -> None:
    short, coarse = np.arange(362.0, 1100.0, 1.0), np.arange(300.0, 1100.0, 5.0)
    with pytest.raises(
        ValueError, match=r"made.fits: the library covers 362..1099 nm, and 354.168..1006.3 nm are needed"
    ):
        Sampler(library(short, short), LOG330, find_resolution(104))
    with pytest.raises(ValueError, match=r"at 360 nm the library has a sample each 5 nm, longer than the FWHM 3.46 nm"):
        Sampler(library(coarse, coarse), LOG330, find_resolution(104))
    with pytest.raises(ValueError, match="nm the library has R = 80, less than 104, which is asked for"):
        Sampler(library(FINE, FINE, (FINE * SIGMA_PER_FWHM / 80) ** 2), LOG330, find_resolution(104))


def test_resolutions(tmp_path: Path) -> None:
    assert find_resolution("own") is None
    assert find_resolution(104)(np.array([400.0, 900.0])).tolist() == [104, 104]
    table = tmp_path / "r.csv"
    table.write_text("wavelength_nm,R\n# made\n400, 50\n\n600 30\n")
    shape = find_resolution(str(table))
    assert shape(np.array([300.0, 500.0, 700.0])).tolist() == [50, 40, 30]
    assert shape.name == "R(lambda) of r.csv"
    for text, message in (
        ("400 50\n", "expected two or more lines"),
        ("400 50\n300 20\n", "ascending, and R"),
        ("400 50\n500 x\n", r"line 2: expected wavelength \[nm\] and R, found '500 x'"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=message):
            find_resolution(str(table))
    with pytest.raises(FileNotFoundError, match="no resolution 'XP'"):
        find_resolution("XP")
    with pytest.raises(ValueError, match="above zero"):
        find_resolution(-3)


def test_xp_resolution_is_the_published_one(shared: Callable[[str], Path]) -> None:
    """One width of the line spread and the dispersion stand for 33 numbers; where BP hands over to RP is a step."""
    wavelength, published = np.loadtxt(shared("xp_lsf/xp_resolution.csv"), delimiter=",", skiprows=1, unpack=True)
    away = np.abs(wavelength - 639) > 4
    ratio = find_resolution("xp")(wavelength[away]) / published[away]
    assert len(ratio) == 32
    assert np.std(np.log(ratio)) < 0.05
    assert np.abs(ratio - 1).max() < 0.11
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    # A resolution that is constant in wavelength would miss by a factor.
    assert np.std(np.log(104 / published[away])) > 0.3


def test_samplings(shared: Callable[[str], Path]) -> None:
    assert (len(LOG330), LOG330[0], LOG330[-1]) == (330, pytest.approx(360), pytest.approx(990))
    xp = find_sampling("variable", find_resolution("xp"))
    assert (len(xp.wavelength), xp.wavelength[0], xp.wavelength[-1]) == (270, 360, pytest.approx(992.1))
    steps = np.diff(xp.wavelength) * find_resolution("xp")(xp.wavelength[1:]) / xp.wavelength[1:]
    assert np.median(steps) == pytest.approx(0.2, abs=0.05)
    assert np.array_equal(find_sampling("variable", find_resolution(104)).wavelength, xp.wavelength)
    table = find_sampling("variable", find_resolution(str(shared("xp_lsf/xp_resolution.csv"))))
    assert np.abs(table.wavelength - xp.wavelength).max() < 10
    assert find_sampling([400, 500], None).wavelength.tolist() == [400, 500]
    assert find_sampling(np.array([4000, 5000]) * units.AA, None).wavelength.tolist() == [400, 500]
    with pytest.raises(ValueError, match="sampling has the unit K; expected wavelengths"):
        find_sampling([400, 500] * units.K, None)
    for bad, message in (("log333", "is not one of log330"), ([500, 400], "ascending"), ([400], "two or more")):
        with pytest.raises(ValueError, match=message):
            find_sampling(bad, None)


def test_coefficients_give_the_spectrum_back(shared: Callable[[str], Path]) -> None:
    """NextGen from 4000 to 7000 K at XP's resolution: c D is the model to 0.8 %; at R = 104 XP cannot follow it."""
    limits = {"teff": (4000, 7000, 1000), "logg": (4.5, 4.5), "mh": (0, 0)}
    (models,) = read_library("nextgen", shared("grids/nextgen/nextgen_1nm_300_1100.npz"), limits=limits)
    where = find_sampling("coefficients", None)
    missed = {}
    for power in ("xp", 104):
        value, missed[power] = as_coefficients(
            where, Sampler(models, where.needed, find_resolution(power))(models.flux)
        )
        design = load_instrument().design(LOG330)
        made = value @ np.asarray(design.value) * float(design.scale)
        assert np.allclose(made.mean(axis=1), FLUX_UNIT, rtol=1e-9)
        direct = Sampler(models, LOG330, find_resolution(power))(models.flux)
        difference = made / FLUX_UNIT - direct / direct.mean(axis=1, keepdims=True)
        assert np.allclose(np.std(difference, axis=1), missed[power], rtol=0.1)
    assert missed["xp"].max() < 8e-3
    assert missed[104].min() > 8e-3
