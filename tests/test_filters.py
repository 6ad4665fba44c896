"""The filters folder: every curve can be read and used, says what it is, and is found from a clone and from a wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

import xpjax
from xpjax.core.shipped import filters_folder, shipped_passbands
from xpjax.synthetic.chain import KINDS
from xpjax.synthetic.projection import MOSTLY, passband_system
from xpjax.synthetic.recover import GOOD
from xpjax.xp import simulate

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(shipped_passbands())


@pytest.fixture(scope="module")
def shipped() -> dict[str, xpjax.PassbandSet]:
    return {name: xpjax.load_passbands(name) for name in SHIPPED}


def test_every_curve_says_what_it_is(shipped: dict[str, xpjax.PassbandSet]) -> None:
    for name, bands in shipped.items():
        for band in bands:
            assert band.meta["kind"] in KINDS, (name, band.name)
            assert band.meta["source"], (name, band.name)
            if band.meta["kind"] == "measured":
                assert band.meta["license"], (name, band.name)
                assert band.meta["reference"], (name, band.name)
            if band.meta["kind"] == "recovered":
                assert bands.label.endswith("_recovered")
                assert band.meta["residual"] < 0.1
                assert band.meta["method"]


def test_published_systems_are_all_there(shipped: dict[str, xpjax.PassbandSet]) -> None:
    """Every published band, but the one whose vector is no passband's; 275 of them or more to 1e-5."""
    residuals, absent = [], []
    for name in xpjax.available_systems():
        system = xpjax.load_system(name)
        absent += [f"{name}:{band}" for band in system.names if band not in shipped[name].names]
        residuals += [band.meta["residual"] for band in shipped[name]]
    assert absent == ["HST_WFC3UVIS:f658n"]
    assert sum(r < GOOD for r in residuals) >= 275
    assert len(shipped["JPLUS"]) == 12
    assert all(band.meta["residual"] < GOOD for band in shipped["JPLUS"])


def test_recovered_jplus_gives_published_magnitudes(shipped: dict[str, xpjax.PassbandSet]) -> None:
    stars = simulate.simulate_sources(500, seed=2, correlations=False, dtype=np.float64)
    mine = xpjax.photometry(stars, passband_system(shipped["JPLUS"]), errors=False, float64=True)
    published = xpjax.photometry(stars, "JPLUS", errors=False, float64=True)
    difference = np.abs(mine.magnitude - published.magnitude)
    assert np.all(np.nanpercentile(difference, 95, axis=0) < 1e-4)
    moved = passband_system(shipped["JPLUS"]["gJPLUS"])
    assert np.nanmax(np.abs(mine["rJPLUS"] - xpjax.photometry(stars, moved, errors=False)["gJPLUS"])) > 0.01


@pytest.mark.slow
def test_all_shipped_bands_make_systems(shipped: dict[str, xpjax.PassbandSet]) -> None:
    beyond = []
    for name, bands in shipped.items():
        for band in bands:
            outside = band.share_outside()
            if outside > MOSTLY:
                beyond.append(f"{name}:{band.name}")
            else:
                assert 320 < band.mean_wavelength < 1060
        if len(bands) < 8:
            passband_system(bands, allow_outside=True)
    assert beyond == []


def test_components_are_labelled() -> None:
    from astropy.table import Table

    for path in sorted((filters_folder() / "components").rglob("*.ecsv")):
        meta = Table.read(path, format="ascii.ecsv").meta
        assert meta["kind"] in KINDS, path
        assert meta["source"], path
        assert meta["reference"], path
    chain = tomllib.loads((filters_folder() / "minisitian" / "system.toml").read_text())
    assert "stand-in" in chain["description"]
    assert all(band.meta["kind"] == "stand-in" for band in xpjax.load_passbands("minisitian"))


def test_packaging_lists_every_package_and_the_filters() -> None:
    """The wheel's list of packages is written by hand, because the filters folder is one of them."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "xpjax").rglob("__init__.py")}
    assert set(listed) == found | {"xpjax._filters"}
    suffixes = {p.suffix for p in (ROOT / "filters").rglob("*") if p.is_file()}
    assert suffixes <= {".ecsv", ".toml", ".md"}
