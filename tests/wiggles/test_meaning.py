"""What residuals and features mean: in files, in networks, against options; plain files of others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import NAMES, made, made_model, star_features, stars
from tests.wiggles.test_comparison import GRID, made as made_spectra
from xpjax.core.errors import XpjaxError, command_line
from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.wiggles.choice import NetworkCorrection
from xpjax.wiggles.comparison import make_residuals
from xpjax.wiggles.epochs import TrainingSettings
from xpjax.wiggles.feature_files import read_features, write_features
from xpjax.wiggles.features import Features, make_features
from xpjax.wiggles.meaning import Meaning
from xpjax.wiggles.network import read_network, write_network
from xpjax.wiggles.residuals import read_residuals, write_residuals
from xpjax.wiggles.spectra import correct_spectra
from xpjax.wiggles.training import train_network

SHORT = TrainingSettings(widths=(4,), epochs=1)


HOW = {"kind": "multiplicative", "space": "observed", "truncate": False}


def test_a_network_is_what_its_residuals_are(tmp_path: Path) -> None:
    stars_, flux, true, _ = made_spectra(ebv=0.1)
    stars_ = dataclasses.replace(stars_, truncate=True, gaia="columns")
    how = {"kind": "multiplicative", "space": "observed", "law": "odonnell94", "r_v": 2.8, "per_ebv": 2.5}
    found, _ = make_residuals(stars_, GRID, flux, true, **how)
    write_residuals(tmp_path / "r.h5", found)
    with h5py.File(tmp_path / "r.h5") as file:
        assert {k: file.attrs[k] for k in how} == how
        assert bool(file.attrs["truncate"])
        assert file["wavelength"].attrs["unit"] == "nm"
    back = read_residuals(tmp_path / "r.h5")
    assert back.meaning == found.meaning == Meaning(**how, truncate=True, gaia="columns")
    model = train_network(back, SHORT)
    assert (model.kind, model.space, model.law, float(model.r_v), float(model.per_ebv)) == tuple(how.values())
    assert (model.truncate, model.gaia) == (True, "columns")
    write_network(tmp_path / "m.h5", model)
    assert read_network(tmp_path / "m.h5").gaia == "columns"


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [("kind", "additive", "--kind additive"), ("truncate", True, "--truncate"), ("r_v", 4.0, "--r-v 4.0")],
)
def test_contradictions_name_both(option: str, value: object, named: str) -> None:
    own = Meaning("multiplicative", "observed", "ccm89", R_V, AV_PER_SFD, False)
    data = dataclasses.replace(made(40), meaning=own, origin="r.h5")
    with pytest.raises(XpjaxError, match=f"r.h5: made with {option} .*{option}={value!r}"):
        train_network(data, SHORT, **{option: value})
    with command_line(), pytest.raises(XpjaxError, match=f"but {named} was asked for"):
        train_network(data, SHORT, **{option: value})
    assert train_network(data, SHORT, **HOW, r_v=R_V).kind == "multiplicative"


def test_what_residuals_do_not_say_must_be_said(tmp_path: Path) -> None:
    write_residuals(tmp_path / "r.h5", made(40))
    with h5py.File(tmp_path / "r.h5", "a") as file:
        for name in ("kind", "space", "law", "r_v", "per_ebv", "truncate"):
            del file.attrs[name]
    old = read_residuals(tmp_path / "r.h5")
    with pytest.raises(XpjaxError, match=r"r\.h5: the attributes kind, space, truncate, law, r_v, per_ebv are absent"):
        train_network(old, SHORT)
    with command_line(), pytest.raises(XpjaxError, match="--kind additive, --space dereddened, --no-truncate, --law"):
        train_network(old, SHORT)
    with pytest.raises(XpjaxError, match="the attributes law, r_v, per_ebv are absent"):
        train_network(old, SHORT, kind="additive", space="dereddened", truncate=False)
    model = train_network(old, SHORT, **HOW)  # no dust enters
    assert (model.kind, model.space) == ("multiplicative", "observed")
    with h5py.File(tmp_path / "r.h5", "a") as file:
        file.attrs["kind"] = "ratio"
    with pytest.raises(XpjaxError, match=r"r\.h5: attribute kind 'ratio' is not one of"):
        read_residuals(tmp_path / "r.h5")


def test_spectra_and_features_are_truncated_alike() -> None:
    stars_, flux, true, _ = made_spectra()
    full = dataclasses.replace(stars_, truncate=False)
    with pytest.raises(XpjaxError, match="the spectra are truncated, the features are of full ones"):
        make_residuals(full, GRID, flux, true, truncate=True)
    assert make_residuals(full, GRID, flux, true)[0].meaning.truncate is False
    assert make_residuals(stars_, GRID, flux, true)[0].meaning.truncate is None
    model = made_model(truncate=True)
    with pytest.raises(XpjaxError, match="trained on features of truncated spectra, these are of full ones"):
        NetworkCorrection(model, stars=dataclasses.replace(star_features(), truncate=False))


def test_features_say_what_they_are_of(tmp_path: Path) -> None:
    table = stars(8)
    given = make_features(table, ("G", "BP-RP"), gaia="columns")
    assert (given.truncate, given.gaia) == (None, "columns"), "no spectrum is in them"
    shape = make_features(table, "shape", truncate=True)
    assert (shape.truncate, shape.gaia) == (True, None)
    for one in (given, shape):
        write_features(tmp_path / "f.h5", one, overwrite=True)
        back = read_features(tmp_path / "f.h5").matched(one.source_id)[np.arange(3)]
        assert (back.truncate, back.gaia) == (one.truncate, one.gaia)


def test_given_and_synthetic_magnitudes_are_told_apart() -> None:
    data = dataclasses.replace(made(40), meaning=Meaning(**HOW, gaia="columns"))
    model = train_network(data, SHORT)
    known = Features(np.arange(1, 3), NAMES, np.ones((2, 3)), gaia="synthetic")
    with pytest.raises(XpjaxError, match=r"trained on given G, BP and RP .*have synthetic .*gaia='columns'"):
        NetworkCorrection(model, stars=known)
    with command_line(), pytest.raises(XpjaxError, match="--gaia columns"):
        NetworkCorrection(model, ebv="ebv")
    assert NetworkCorrection(model, ebv="ebv", gaia="columns").gaia == "columns"


def test_spectra_are_corrected_once() -> None:
    model, known, table = made_model(), star_features()[:5], stars()[:5]
    once = correct_spectra(xpjax.spectra(table, errors=False), model, known)
    with pytest.raises(XpjaxError, match="corrected by a network already"):
        correct_spectra(once, model, known)


def test_quantities_are_converted() -> None:
    from astropy import units as u

    stars_, flux, true, wiggle = made_spectra()
    found, _ = make_residuals(stars_, (GRID * u.nm).to(u.um), flux, true)
    np.testing.assert_allclose(found.residual, wiggle, atol=1e-12)
    again = dataclasses.replace(found, wavelength=(GRID * u.nm).to(u.Angstrom))
    np.testing.assert_allclose(again.wavelength, GRID)
    given = {"G": np.array([14000.0, 15000.0]) * u.mmag, "BP": np.ones(2), "RP": np.zeros(2)}
    made_of = make_features(given, ("G", "BP-RP"))
    np.testing.assert_allclose(made_of.value, [[14, 1], [15, 1]])
    assert made_of.gaia == "columns"
    with pytest.raises(XpjaxError, match="wavelength has the unit"):
        dataclasses.replace(found, wavelength=GRID * u.s)
