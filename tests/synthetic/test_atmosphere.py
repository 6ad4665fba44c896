"""The atmosphere against published numbers, measured extinction curves and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.table import Table

from tests.marks import slow_after
from xpjax.core.shipped import filters_folder
from xpjax.synthetic import atmosphere as air

GRID = np.arange(322.3, 1060.0, 3.7)


def first_principles(wavelength: np.ndarray) -> np.ndarray:
    """Rayleigh optical depth at sea level from the refractive index (Peck & Reeder 1972) and King factor of dry air."""
    um = wavelength / 1000.0
    n = 1 + 1e-8 * (8060.51 + 2480990 / (132.274 - um**-2) + 17455.7 / (39.32957 - um**-2))
    n = 1 + (n - 1) * (1 + 0.54 * (360e-6 - 0.0003))
    nitrogen, oxygen = 1.034 + 3.17e-4 * um**-2, 1.096 + 1.385e-3 * um**-2 + 1.448e-4 * um**-4
    king = (78.084 * nitrogen + 20.946 * oxygen + 0.934 + 0.036 * 1.15) / (78.084 + 20.946 + 0.934 + 0.036)
    density, avogadro = 2.546899e19, 6.0221367e23  # cm-3 at 288.15 K, mol-1
    cross = 24 * np.pi**3 * (n**2 - 1) ** 2 / ((um * 1e-4) ** 4 * density**2 * (n**2 + 2) ** 2) * king
    weight, gravity = 15.0556 * 360e-6 + 28.9595, 980.6160 - 0.0003085462 * 5517.56  # 45 degrees, column's mean height
    return cross * 1013250.0 * avogadro / (weight * gravity)


def test_rayleigh_is_the_published_one() -> None:
    with jax.enable_x64(True):
        x = np.linspace(320.0, 850.0, 54)
        np.testing.assert_allclose(air.rayleigh_depth(x), first_principles(x), rtol=2e-3)
        # Hansen & Travis 1974 (Space Sci. Rev. 16, 527), equation 2.30.
        um = x / 1000.0
        other = 0.008569 * um**-4 * (1 + 0.0113 * um**-2 + 0.00013 * um**-4)
        np.testing.assert_allclose(air.rayleigh_depth(x), other, rtol=8e-3)
        assert float(air.rayleigh_depth(np.array([550.0]))[0]) == pytest.approx(0.0971, abs=1e-4)


def test_pressure_is_that_of_the_standard_atmosphere() -> None:
    # U.S. Standard Atmosphere 1976, table 1.
    for altitude, hpa in ((0, 1013.25), (1000, 898.76), (2000, 795.01), (3000, 701.21), (4000, 616.60)):
        assert air.pressure(altitude) == pytest.approx(hpa, rel=5e-4)


def test_ozone_absorbs_as_published() -> None:
    # Bird & Riordan 1986 (J. Climate Appl. Meteor. 25, 87), table 1: coefficients per atm-cm, coarse.
    x = np.array([315.0, 330.0, 500.0, 530.0, 550.0, 570.0, 630.0, 656.0, 690.0])
    published = np.array([1.35, 0.16, 0.03, 0.063, 0.085, 0.12, 0.09, 0.065, 0.028])
    np.testing.assert_allclose(air.ozone_depth(x, 1000.0), published, rtol=0.2)
    assert float(air.ozone_depth(np.array([400.0]), 300.0)[0]) < 5e-4


@pytest.mark.parametrize(
    ("low", "high", "transmission", "tolerance"),
    [
        (350, 370, 0.3610, 0.006),
        (410, 430, 0.5518, 0.006),
        (510, 530, 0.7157, 0.006),
        (590, 610, 0.7443, 0.01),
        (650, 670, 0.8133, 0.01),
        (690, 710, 0.8145, 0.01),
        (710, 730, 0.7692, 0.02),
        (750, 770, 0.6952, 0.01),
        (810, 830, 0.7844, 0.04),
        (850, 870, 0.9155, 0.01),
        (930, 950, 0.3483, 0.03),
        (950, 970, 0.5053, 0.03),
    ],
)
def test_transmission_is_that_of_a_radiative_transfer_code(
    low: float, high: float, transmission: float, tolerance: float
) -> None:
    # Direct over extraterrestrial irradiance of ASTM G173-03 (SMARTS 2.9.2), mean over each range: airmass 1.5, water
    # 14.16 mm, ozone 343.8 DU, aerosol 0.084 at 500 nm with exponent 1.15.
    g173 = air.Atmosphere(airmass=1.5, water=14.16, ozone=343.8, aerosol=0.084 * 0.5**1.15, angstrom=1.15)
    mean = float(g173.transmission(np.arange(low, high, 0.5)).mean())
    assert mean == pytest.approx(transmission, abs=tolerance)


@pytest.mark.parametrize(
    ("low", "high", "airmass", "altitude", "water", "width"),
    slow_after(
        2,
        [  # equivalent widths [nm] of line-by-line absorption with HITRAN cross sections (pwv_kpno 1.3)
            (755, 775, 1, 0, 0, 3.78),
            (922, 1000, 1, 2096, 5, 12.66),
            (755, 775, 2, 0, 0, 4.85),
            (755, 775, 1, 4200, 0, 2.70),
            (682, 700, 1, 0, 0, 0.839),
            (682, 700, 3, 2000, 0, 1.194),
            (622, 636, 2, 2000, 0, 0.098),
            (714, 742, 1, 2096, 1, 0.240),
            (714, 742, 1, 2096, 10, 1.817),
            (808, 850, 1, 2096, 5, 1.421),
            (880, 922, 1, 2096, 2, 1.151),
            (922, 1000, 1, 2096, 1, 4.47),
            (922, 1000, 1, 2096, 20, 25.52),
        ],
    ),
)
def test_bands_have_the_equivalent_widths_of_their_lines(
    low: float, high: float, airmass: float, altitude: float, water: float, width: float
) -> None:
    x = np.arange(low, high, 0.2)
    depth = air.MolecularBands()(jnp.asarray(x), airmass, water, air.pressure(altitude), float(water == 0))
    assert float(jnp.sum(1 - jnp.exp(-depth)) * 0.2) == pytest.approx(width, rel=0.09)


NAMES = ["airmass", "water", "ozone", "aerosol", "angstrom", "pressure", "oxygen"]


@pytest.mark.parametrize("with_site", slow_after(1, [True, False]))
def test_gradients_are_those_of_finite_differences(with_site: bool) -> None:
    values = {
        **{"airmass": 1.3, "water": 4.0, "ozone": 290.0, "aerosol": 0.05, "angstrom": 1.1, "pressure": 800.0},
        "oxygen": 1.0,
    }
    site = air.SiteCurve(np.array([300.0, 1100.0]), np.array([0.9, 0.02]), 900.0, 300.0, 0.03, 1.3)

    @jax.jit
    def transmission(values: dict[str, float]) -> jax.Array:
        return air.Atmosphere(**values, site=site if with_site else None).transmission(GRID)

    with jax.enable_x64(True):
        gradient = jax.jit(jax.jacfwd(transmission))(values)
        for name in NAMES:
            step = 1e-5 * values[name]
            up, down = (transmission({**values, name: values[name] + s}) for s in (step, -step))
            own = np.asarray(gradient[name])
            assert np.abs(own).max() > 1e-6, name
            bound = 1e-9 * max(0.01, np.abs(own).max())
            np.testing.assert_allclose(own, (up - down) / (2 * step), rtol=1e-6, atol=bound, err_msg=name)


@pytest.mark.slow
def test_gradients_are_finite_without_water() -> None:
    def total(value: float) -> jax.Array:
        return air.Atmosphere(water=value).transmission(GRID).sum()

    assert np.isfinite(jax.grad(total)(0.0))
    assert float(jax.grad(total)(0.0)) < 0


@pytest.mark.slow
def test_gradients_reach_every_leaf() -> None:
    gradient = eqx.filter_grad(lambda a: a.transmission(GRID).sum())(air.Atmosphere(water=2.0))
    for name in NAMES:
        assert np.isfinite(getattr(gradient, name))
        assert float(getattr(gradient, name)) != 0
    assert gradient.bands.water.shape == (32, 3)


def test_a_site_curve_is_kept_and_then_changed_by_the_formulas() -> None:
    with jax.enable_x64(True):
        formulas = air.Atmosphere(airmass=1.4, ozone=300.0, aerosol=0.03, angstrom=1.2, pressure=850.0)
        site = air.SiteCurve(GRID, np.asarray(formulas.extinction(GRID)), 850.0, 300.0, 0.03, 1.2)
        same = air.Atmosphere.at_site(site, airmass=1.4)
        np.testing.assert_allclose(same.transmission(GRID), formulas.transmission(GRID), rtol=1e-12)
        changes = {"ozone": 350.0, "aerosol": 0.1, "angstrom": 0.8, "pressure": 700.0}
        changed = air.Atmosphere.at_site(site, **changes)
        np.testing.assert_allclose(changed.transmission(GRID), air.Atmosphere(**changes).transmission(GRID), rtol=1e-12)


def test_bands_of_ones_own() -> None:
    table = air.TabulatedBands(np.array([700.0, 800.0]), np.array([0.0, 0.2]), np.array([0.1, 0.1]), 1.0, 0.5)
    clear = air.Atmosphere(airmass=2.0, bands=None)
    x = np.array([690.0, 750.0])
    ratio = air.Atmosphere(airmass=2.0, water=8.0, bands=table).transmission(x) / clear.transmission(x)
    np.testing.assert_allclose(ratio, [1.0, np.exp(-0.1 * 2 - 0.1 * 16**0.5)], rtol=1e-6)

    def gray(wavelength: jax.Array, airmass: float, water: float, pressure: float, oxygen: float) -> jax.Array:
        return jnp.full_like(wavelength, 0.5)

    ratio = air.Atmosphere(airmass=2.0, bands=gray).transmission(x) / clear.transmission(x)
    np.testing.assert_allclose(ratio, np.exp(-0.5), rtol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("airmass", 0.9), ("water", -1.0), ("ozone", np.nan), ("pressure", 0.0)])
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} = "):
        air.Atmosphere(**{name: value})


MEASURED = {
    # site: file, unit per nm, largest and rms difference [mag/airmass] within 350..900 nm
    "xinglong": ("baoextinct.dat", 0.025, 0.015),
    "lijiang": ("LJextinct.dat", 0.065, 0.035),
    "ctio": ("ctioextinct.dat", 0.030, 0.015),
    "kpno": ("kpnoextinct.dat", 0.020, 0.008),
    "lapalma": ("lapalmaextinct.dat", 0.030, 0.020),
    "paranal": ("paranalextinct.dat", 0.025, 0.010),
    "maunakea": ("mkoextinct.dat", 0.015, 0.008),
    "palomar": ("palomarextinct.dat", 0.015, 0.008),
    "mthamilton": ("mthamextinct.dat", 0.020, 0.010),
}


@pytest.mark.parametrize("name", MEASURED)
def test_sites_are_near_measured_extinction(name: str, shared: Callable[[str], Path]) -> None:
    file, largest, rms = MEASURED[name]
    measured = np.loadtxt(shared(f"extinction/{file}"))[:, :2]
    x, k = measured[:, 0] / 10.0, measured[:, 1]
    keep = (x > 350) & (x < 900)
    table = Table.read(filters_folder() / "components" / "sites" / f"{name}.ecsv", format="ascii.ecsv")
    difference = np.interp(x[keep], table["wavelength"], table["extinction"]) - k[keep]
    assert np.abs(difference).max() < largest
    assert np.sqrt(np.mean(difference**2)) < rms


def test_site_tables_are_what_their_headers_say() -> None:
    files = sorted((filters_folder() / "components" / "sites").glob("*.ecsv"))
    assert len(files) >= 11
    for file in files:
        table = Table.read(file, format="ascii.ecsv")
        meta = table.meta
        assert (meta["kind"], meta["name"]) == ("computed", file.stem)
        assert "not a measurement" in meta["note"]
        assert meta["pressure"] == pytest.approx(air.pressure(meta["altitude"]), abs=0.01)
        x = np.asarray(table["wavelength"])
        with jax.enable_x64(True):
            own = air.Atmosphere(**{key: float(meta[key]) for key in ("ozone", "aerosol", "angstrom", "pressure")})
            np.testing.assert_allclose(table["extinction"], own.extinction(x), atol=2e-5)
