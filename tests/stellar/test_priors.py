"""What is known of stars before a fit: columns and numbers, dust by latitude, gravities by parallaxes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.stellar.helpers import NAMES
from tests.stellar.test_fitter import made_sources, xp_grid
from xpjax.core.errors import XpjaxError
from xpjax.core.status import FitStatus
from xpjax.extinction import AV_PER_SFD, extinction_curve
from xpjax.stellar.dust import redden
from xpjax.stellar.fitter import LabelFitter
from xpjax.stellar.interpolation import interpolate_grid
from xpjax.stellar.priors import (
    MASS_SPREAD,
    bolometric_correction,
    dereddened_g,
    gaussians,
    joined,
    layer_of_dust,
    parallax_prior,
)
from xpjax.stellar.results import StellarFit
from xpjax.synthetic import gaia_system

SUN = 4.74 - 0.07
"""The absolute G magnitude of the Sun (Casagrande & VandenBerg 2018), to 0.02 mag."""


def test_bolometric_corrections_are_those_of_andrae_et_al() -> None:
    """Andrae et al. (2018, A&A 616, A8), table 4, for dwarfs of solar metallicity: their MARCS models, other G band."""
    teff = np.array([4000.0, 4500, 5000, 5500, 6000, 6500, 7000])
    x = teff - 5772
    known = 6.0e-2 + 6.731e-5 * x - 6.647e-8 * x**2 + 2.859e-11 * x**3 - 7.197e-15 * x**4
    np.testing.assert_allclose(bolometric_correction(teff, np.full(7, 4.5)), known, atol=0.07)
    np.testing.assert_allclose(bolometric_correction(teff, np.full(7, 4.5))[1:], known[1:], atol=0.02)
    assert np.ptp(bolometric_correction(np.full(9, 3600.0), np.linspace(-1, 6, 9))) > 0.2
    assert np.isnan(bolometric_correction(np.array([np.nan]), np.array([4.0]))[0])


def test_the_sun_at_any_distance_has_its_gravity() -> None:
    for parallax in (100.0, 10.0, 1.0):
        g = SUN + 5 * np.log10(100 / parallax)
        star = (np.array([x]) for x in (5772.0, g, parallax, parallax / 200))
        logg, error = parallax_prior(*star)
        assert abs(logg[0] - 4.438) < 0.02
        assert error[0] == pytest.approx(MASS_SPREAD, rel=2e-3)
    # A giant of 4800 K and a hundred times the luminosity of the Sun.
    logg, _ = parallax_prior(*(np.array([x]) for x in (4800.0, 4.74 - 5 + 0.085 + 10, 1.0, 0.02)))
    assert abs(logg[0] - (4.438 + 4 * np.log10(4800 / 5772) - 2)) < 0.02


def test_uncertain_parallaxes_are_not_inverted() -> None:
    """The moments of log g by brute force, from the likelihood of the parallax that was measured."""
    logg = np.linspace(-6, 9, 4001)
    for snr in (4.0, 8.0, 30.0):
        g, parallax = 12.0, 2.0
        true = parallax * 10 ** (0.5 * (logg - parallax_prior(*np.array([[5772.0], [g], [parallax], [1e-4]]))[0][0]))
        weight = np.exp(-0.5 * ((parallax - true) / (parallax / snr)) ** 2) * (true > 0.1 * parallax)
        mean = np.sum(weight * logg) / weight.sum()
        spread = np.sqrt(np.sum(weight * (logg - mean) ** 2) / weight.sum() + MASS_SPREAD**2)
        found = parallax_prior(*np.array([[5772.0], [g], [parallax], [parallax / snr]]))
        np.testing.assert_allclose(found[0][0], mean, atol=0.01)
        np.testing.assert_allclose(found[1][0], spread, rtol=0.01)
    for parallax, error in ((-1.0, 0.1), (0.2, 0.1), (np.nan, 0.1), (1.0, np.nan), (1.0, 0.0)):
        assert np.isnan(parallax_prior(*np.array([[5772.0], [12.0], [parallax], [error]]))).all() or error == 0


def test_g_of_spectra_is_gaias() -> None:
    """Sampled where grids are, against synthetic photometry of the coefficients; and behind dust."""
    sources = xpjax.simulate_sources(60, seed=2)
    x = np.geomspace(360.0, 990.0, 330)
    flux = xpjax.spectra(sources, x, errors=False).flux
    known = xpjax.photometry(sources, gaia_system()).magnitude[:, 0]
    bright = known < 16  # noise at the ends of the passband is not sampled
    np.testing.assert_allclose(dereddened_g(x, flux, None, {})[bright], known[bright], atol=0.02)
    dusty = flux * 10 ** (-0.4 * AV_PER_SFD * 0.3 * extinction_curve(x, "odonnell94"))
    bare = dereddened_g(x, dusty, np.full(60, 0.3), {"law": "odonnell94"})
    np.testing.assert_allclose(bare, dereddened_g(x, flux, None, {}), atol=1e-4)
    with pytest.raises(XpjaxError, match=r"a grid on 400\.\.700 nm misses much of the G passband"):
        dereddened_g(np.linspace(400.0, 700, 50), flux[:, :50], None, {})


def test_dust_of_the_layer_goes_with_latitude() -> None:
    from astropy import units
    from astropy.coordinates import SkyCoord
    from astropy_healpix import HEALPix

    where = SkyCoord(l=[10.0, 200, 40] * units.deg, b=[90.0, 30, -5] * units.deg, frame="galactic").icrs
    pixel = HEALPix(1 << 12, order="nested").lonlat_to_healpix(where.ra, where.dec)
    mean, error = layer_of_dust(np.array([*(pixel << 35), 0, -7]))
    np.testing.assert_allclose(mean[:3], 0.02 / np.sin(np.radians([90, 30, 5])), rtol=5e-3)
    np.testing.assert_allclose(error[:3], 2 * mean[:3] + 0.05)
    assert np.isnan([mean[3:], error[3:]]).all()


def test_columns_numbers_and_their_gaps() -> None:
    ids, columns = np.arange(3), {"a": np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), "s": np.array([0.1, 0.2, 0.0])}
    found = gaussians({"mh": ("a", "s"), "teff": (5000, 100.0), "logg": None}, columns, ids, "t.fits")
    assert [*found] == ["mh", "teff"]
    np.testing.assert_array_equal(found["mh"], [[1, np.nan, 3], [0.1, 0.2, np.nan]])
    np.testing.assert_array_equal(found["teff"], [[5000] * 3, [100] * 3])
    with pytest.raises(XpjaxError, match=r"t\.fits has no column b; it has a, s"):
        gaussians({"mh": ("b", 1)}, columns, ids, "t.fits")
    with pytest.raises(XpjaxError, match="not positive"):
        gaussians({"mh": (1, 0)}, columns, ids, "t.fits")
    nan = np.nan
    one, other = np.array([[1.0, 1.0, nan, nan], [0.1, nan, 0.2, nan]]), np.array([[2.0, 2.0, 2.0, nan], [0.1] * 4])
    np.testing.assert_allclose(joined(tuple(one), tuple(other)), [[1.5, 2, 2, nan], [0.1 / np.sqrt(2), 0.1, 0.1, nan]])


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"ebv": "ebv", "priors": {"ebv": ("ebv", 0.1)}}, "a prior of ebv, which is no label of this fit"),
        ({"priors": {"feh": (0, 1)}}, "a prior of feh, which is no label of this fit; it has teff, logg, mh, ebv"),
        ({"priors": {"mh": "layer"}}, "expected a mean and its standard error"),
        ({"priors": {"mh": (0, 1, 2)}}, "expected a mean and its standard error"),
        ({"ebv": 0, "r_v": [2.5, 3.1, 4]}, "R_V is fitted where E"),
    ],
)
def test_refusals(how: dict[str, object], told: str) -> None:
    with pytest.raises(XpjaxError, match=told):
        LabelFitter(xp_grid(), **how)


@pytest.mark.slow
def test_reddening_is_a_number_a_prior_or_found() -> None:
    """Made stars behind dust: their labels with E(B-V) known, half known, and free."""
    table, labels = made_sources(40, dusty=True, noise=3e-4)
    ebv = np.asarray(table.columns["ebv"])
    vague = ebv + np.random.default_rng(0).normal(0, 0.05, 40)
    table = dataclasses.replace(table, columns={"ebv": ebv, "vague": vague, "spread": np.full(40, 0.05)})
    how = {"error_floor": 1e-3, "correction": None}
    fixed = LabelFitter(xp_grid(), ebv="ebv", **how)(table).fit
    number = LabelFitter(xp_grid(), ebv=float(ebv[3]), **how)(table).fit
    np.testing.assert_allclose(number.labels[3], fixed.labels[3], rtol=1e-4, atol=1e-3)
    other = np.abs(ebv - ebv[3]) > 0.1
    assert np.median(np.abs((number.labels - labels)[other, 0])) > 5 * np.median(
        np.abs((fixed.labels - labels)[other, 0])
    )
    free = LabelFitter(xp_grid(), fit_ebv=[-0.1, 0, 0.1, 0.2, 0.3, 0.4, 0.5], **how)(table).fit
    known = LabelFitter(xp_grid(), priors={"ebv": ("vague", "spread")}, **how)
    assert known.columns == ("vague", "spread")
    prior = known(table).fit
    assert free.names == prior.names == (*NAMES, "ebv")
    good = (free.status == 0) & (prior.status == 0)
    assert good.mean() > 0.7
    assert np.median(np.abs(free.labels[good, 3] - ebv[good])) < 0.02
    assert np.median(np.abs(prior.labels[good, 3] - ebv[good])) < 0.02
    assert (prior.error[good, 3] <= free.error[good, 3] * 1.02).all()
    assert (fixed.error[good, 0] < prior.error[good, 0]).all(), "what E(B-V) costs"
    layer = LabelFitter(xp_grid(), **how)
    assert layer.priors == {"ebv": "layer"}
    assert dataclasses.replace(layer, error_floor=0.02).priors == {"ebv": "layer"}
    found, center = layer(table).fit, layer_of_dust(table.source_id)[0]
    away = np.abs(np.stack([fit.labels[good, 3] - center[good] for fit in (found, free)]))
    assert 0.3 < np.median(away[0]) / np.median(away[1]) < 1, "drawn to the layer, by a little"


@pytest.mark.slow
def test_r_v_is_a_label() -> None:
    """A grid with nodes of R_V follows the law between them, with A_V in proportion to R_V."""
    grid = xp_grid()
    dusty = redden(grid, [0.0, 0.2, 0.4, 0.6], r_v=[2.3, 2.7, 3.1, 3.6, 4.3])
    assert dusty.names == (*NAMES, "ebv", "rv")
    x, model = np.asarray(grid.wavelength), np.asarray(grid.flux)[4, 1, 2]
    for ebv, r_v in ((0.3, 2.9), (0.5, 4.0)):
        true = model * 10 ** (-0.4 * AV_PER_SFD * r_v / 3.1 * ebv * extinction_curve(x, "ccm89", r_v))
        found = interpolate_grid(dusty)(np.array([grid.nodes[0][4], grid.nodes[1][1], grid.nodes[2][2], ebv, r_v]))
        np.testing.assert_allclose(found, true / true.mean(), atol=1.5e-3)
    fitter = LabelFitter(grid.select({"teff": (4600, 5800)}), priors={"rv": (3.1, 0.2)}, error_floor=0.01)
    assert fitter.model.names == (*NAMES, "ebv", "rv")
    assert LabelFitter(grid.select({"teff": (4600, 5000)}), r_v=[2.5, 3.1, 4.0]).priors == {
        "ebv": "layer",
        "rv": (3.1, 0.3),
    }


@pytest.mark.slow
def test_a_parallax_tells_dwarfs_from_giants() -> None:
    """Noisy stars of one solar mass at known distances: log g is found by the parallax where spectra do not tell it."""
    table, labels = made_sources(60, noise=3e-3)
    grid = xp_grid()
    x = np.asarray(grid.wavelength)
    flux = xpjax.spectra(table, x, errors=False).flux
    g = dereddened_g(x, flux, None, {})
    m_bol = 4.74 + 2.5 * (labels[:, 1] - 4.438) - 10 * np.log10(labels[:, 0] / 5772)
    true = 10 ** (0.2 * (m_bol - bolometric_correction(labels[:, 0], labels[:, 1]) - g) + 2)
    error = true / np.where(np.arange(60) % 2, 20, 1)
    parallax = true + 0.5 * error
    table = dataclasses.replace(table, columns={"plx": parallax, "plx_error": error})
    how = {"error_floor": 0.02, "ebv": 0, "correction": None}
    plain = LabelFitter(grid, **how)(table).fit
    fitter = LabelFitter(grid, parallax="plx", **how)
    assert fitter.columns == ("plx", "plx_error")
    found = fitter(table).fit
    sharp = np.arange(60) % 2 == 1
    before, after = (np.abs(fit.labels[:, 1] - labels[:, 1]) for fit in (plain, found))
    assert np.median(after[sharp]) < 0.15
    assert np.median(after[sharp]) < 0.7 * np.median(before[sharp])
    np.testing.assert_allclose(found.labels[~sharp], plain.labels[~sharp], rtol=1e-3, atol=0.02)
    bare = xpjax.stellar.StellarGrid(grid.nodes[:1], np.asarray(grid.flux)[:, 0, 0], x, ("teff",))
    with pytest.raises(XpjaxError, match="parallaxes tell log g by Teff"):
        LabelFitter(bare, parallax="plx")


def test_summaries_say_which_edge_and_what_to_do() -> None:
    fitter = LabelFitter(xp_grid(), ebv=0)
    one = np.ones(4)
    labels = np.array([[4000.0, 5.0, 0.0], [5000, 4, 0], [4000, 4, 0], [np.nan] * 3])
    status = np.array([FitStatus.EDGE, FitStatus.OK, FitStatus.EDGE | FitStatus.NO_CONVERGENCE, FitStatus.BAD_INPUT])
    fit = StellarFit(NAMES, labels, np.ones((4, 3, 3)), one, one, one, status.astype(np.uint32))
    fits = xpjax.stellar.LabelFits(np.arange(4), fit, None, np.zeros(4, np.uint32))
    lines = fitter.summary(fits)
    assert lines[0] == "1 converged inside the grid"
    assert lines[1].startswith(
        "2 EDGE: teff low (4000) 2, logg high (5) 1. At least one label is at the edge of the grid."
    )
    assert "parallaxes (parallax)" in lines[1]
    assert [line.split(".")[0] for line in lines[2:]] == ["1 BAD_INPUT", "1 NO_CONVERGENCE"]


@pytest.mark.slow
def test_stars_of_a_real_file_need_no_column(shared: Callable[[str], Path]) -> None:
    """Of the first random stars nearly all are fitted with E(B-V), from the file as the archive gives it."""
    sources = xpjax.read(shared("xp/xp_random_1200.fits"))[:100]
    fits = LabelFitter(error_floor=0.02)(sources)
    assert fits.meta["correction"] == "standard"
    assert fits.fit.names == (*NAMES, "ebv")
    assert np.isfinite(fits.fit.labels).all(axis=1).mean() > 0.95
    assert 0 < np.nanmedian(fits.fit.labels[:, 3]) < 0.6
