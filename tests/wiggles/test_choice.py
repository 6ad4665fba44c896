"""Corrections as they are named: linear ones, networks with their features, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import made_model, star_features, stars
from xpjax.core.errors import XpjaxError
from xpjax.wiggles import (
    NetworkCorrection,
    choose_correction,
    is_network,
    make_photometer,
    write_features,
    write_network,
)

GAIA = ("BP-RP", "G", "E(B-V)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("choice")
    write_network(home / "network.h5", made_model(names=GAIA))
    write_network(home / "on_standard.h5", made_model(names=GAIA, base="standard"))
    write_features(home / "features.h5", star_features().select(GAIA))
    return home


def test_names_and_files_of_linear_corrections() -> None:
    standard = choose_correction("standard")
    assert isinstance(standard, xpjax.xp.LinearCorrection)
    assert choose_correction(standard) is standard
    assert choose_correction("none") is None
    assert choose_correction(None) is None
    assert not is_network("standard")
    assert not is_network(Path("absent.h5"))


def test_networks_come_with_features_and_their_base(folder: Path) -> None:
    assert is_network(folder / "network.h5")
    how = choose_correction(folder / "network.h5", features=folder / "features.h5", teff="teff")
    assert isinstance(how, NetworkCorrection)
    assert how.stars is not None
    assert how.stars.names == GAIA
    assert how.columns == ("teff",)
    assert how.linear is None
    assert choose_correction(how) is how
    on = choose_correction(folder / "on_standard.h5", ebv="ebv", gaia="columns")
    assert isinstance(on, NetworkCorrection)
    assert on.linear is not None
    assert on.linear.name == "standard"
    assert on.columns == ("ebv", "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag")


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("standard", {"base": "standard"}, "base is for networks"),
        ("none", {"ebv": "ebv"}, "are for networks"),
        ("network.h5", {}, "needs E"),
        ("network.h5", {"features": "features.h5", "ebv": "ebv"}, "leave out ebv and gaia"),
        ("features.h5", {"ebv": "ebv"}, "no file of a wiggle correction"),
    ],
)
def test_what_does_not_go_together(folder: Path, name: str, options: dict, told: str) -> None:
    known = {key: folder / value if value.endswith(".h5") else value for key, value in options.items()}
    with pytest.raises(XpjaxError, match=told):
        choose_correction(folder / name if name.endswith(".h5") else name, **known)


def test_a_photometer_of_either_kind() -> None:
    system = xpjax.load_system("JPLUS:gJPLUS,rJPLUS")
    table = stars()[:5]
    plain = make_photometer(system, errors=False, float64=True)(table)
    expected = xpjax.photometry(table, system, errors=False, float64=True).magnitude
    np.testing.assert_array_equal(plain.magnitude, expected)
    how = NetworkCorrection(made_model(), stars=star_features())
    found = make_photometer(system, how.with_bands(system), errors=False, float64=True)(table)
    assert (found.magnitude != plain.magnitude).all()
    with pytest.raises(XpjaxError, match="not truncated"):
        make_photometer(system, how, truncate=True)
