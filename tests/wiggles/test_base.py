"""Networks that stand on a linear correction, and the shapes of spectra as features."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import made_model, star_features, stars
from xpjax.core.status import Status
from xpjax.synthetic.passband import Passband
from xpjax.wiggles.choice import NetworkCorrection, linear_and_network
from xpjax.wiggles.comparison import make_residuals
from xpjax.wiggles.epochs import TrainingSettings
from xpjax.wiggles.feature_files import read_features, write_features
from xpjax.wiggles.features import SETS, SHAPES, Features, make_features
from xpjax.wiggles.limits import Limits
from xpjax.wiggles.magnitude import corrected_photometry
from xpjax.wiggles.network import read_network, write_network
from xpjax.wiggles.residuals import Residuals, read_residuals, write_residuals
from xpjax.wiggles.spectra import correct_spectra
from xpjax.wiggles.training import train_network
from xpjax.xp.correction import load_correction

ANY = Limits(None, None, None)
N = 40


def known(base: str = "standard") -> Features:
    return dataclasses.replace(star_features()[np.arange(N)], base=base)


def box() -> Passband:
    x = np.arange(480.0, 601.0)
    return Passband("box", x, np.clip(np.minimum(x - 480, 600 - x) / 15, 0, 1), "photon", "AB")


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_magnitudes_and_spectra_start_from_the_corrected_instrument(kind: str) -> None:
    model = made_model(smooth=12.0, kind=kind, base="standard")
    table = stars()[np.arange(N)]
    fine = np.arange(336.0, 1020.1, 0.5)
    start = xpjax.spectra(table, fine, correction="standard", resolution="full", errors=False, float64=True)
    spectra = correct_spectra(start, model, known(), limits=ANY, float64=True)
    found = corrected_photometry(table, box(), model, known(), limits=ANY, errors=False, float64=True)
    expected = -2.5 * np.log10(box().mean_flux(fine, spectra.flux)) - 56.10
    far = (start.status & np.uint32(Status.OUTSIDE_TRAINING)) > 0
    applied = (spectra.status & np.uint32(Status.NOT_CORRECTED)) == 0
    assert applied.sum() > N / 2
    assert not (applied & far).any()
    np.testing.assert_array_equal((found.status & np.uint32(Status.NOT_CORRECTED)) == 0, applied)
    # Far stars are cool: in the band they have little light, and a share of the change.
    np.testing.assert_allclose(found.magnitude[applied, 0], expected[applied], atol=1e-4)
    linear = xpjax.photometry(table, box(), correction="standard", errors=False, float64=True)
    np.testing.assert_allclose(found.magnitude[far], linear.magnitude[far], atol=1e-9)
    assert np.median(np.abs(found.magnitude - linear.magnitude)[applied]) > 1e-3
    raw = made_model(smooth=12.0, kind=kind)
    other = corrected_photometry(table, box(), raw, known("none"), limits=ANY, errors=False, float64=True)
    assert np.median(np.abs(found.magnitude - other.magnitude)) > 1e-3
    assert (found.meta["correction"], found.meta["corrected"], other.meta["correction"]) == ("standard", True, "none")


def test_contradictions_are_refused_by_name() -> None:
    model, table = made_model(base="standard"), stars()[np.arange(N)]
    raw = xpjax.spectra(table, errors=False)
    with pytest.raises(ValueError, match="linear correction standard, but the spectra have none"):
        correct_spectra(raw, model, known())
    with pytest.raises(ValueError, match="linear correction none, but the spectra have standard"):
        correct_spectra(xpjax.spectra(table, errors=False, correction="standard"), made_model(), known("none"))
    with pytest.raises(ValueError, match="but the features are of spectra with none"):
        NetworkCorrection(model, stars=known("none"))
    with pytest.raises(ValueError, match="linear correction none, but the system has standard"):
        corrected_photometry(
            table,
            "SDSS",
            made_model(),
            known("none"),
            system=xpjax.passband_system(xpjax.load_passbands("SDSS"), correction="standard"),
        )
    with pytest.raises(ValueError, match="mine is needed"):
        _ = NetworkCorrection(made_model(base="mine"), stars=known("mine")).linear
    how = NetworkCorrection(model, stars=known())
    assert linear_and_network(how) == (load_correction(), how)
    assert linear_and_network("none") == (None, None)


def test_files_say_what_they_stand_on(tmp_path: Path) -> None:
    for base, version in (("none", 1), ("standard", 2)):
        path = tmp_path / f"{base}.h5"
        write_network(path, made_model(base=base))
        assert read_network(path).base == base
        with h5py.File(path) as file:
            assert file.attrs["format_version"] == version, "an older xpjax refuses what it cannot start from"
        write_features(tmp_path / "f.h5", known(base), overwrite=True)
        assert read_features(tmp_path / "f.h5").base == base
        assert read_features(tmp_path / "f.h5").matched(np.arange(3)).base == base
        table = Residuals(known().source_id, known().names, known().value, np.arange(3.0), np.zeros((N, 3)), base=base)
        write_residuals(tmp_path / "r.h5", table, overwrite=True)
        assert read_residuals(tmp_path / "r.h5")[np.arange(2)].base == base
    with h5py.File(tmp_path / "f.h5", "a") as file:
        del file.attrs["base"]
    assert read_features(tmp_path / "f.h5").base == "none", "today's files"


def test_training_keeps_the_base() -> None:
    rng = np.random.default_rng(0)
    grid = np.linspace(400.0, 900.0, 12)
    flux = 1 + 0.1 * rng.random((N, 12))
    with pytest.raises(ValueError, match="the spectra have the linear correction none"):
        make_residuals(known(), grid, flux, flux, base="none")
    made, _ = make_residuals(known(), grid, flux, flux * (1 + 0.02 * rng.normal(size=flux.shape)), base="standard")
    model = train_network(made, TrainingSettings(widths=(4,), epochs=2))
    assert (made.base, model.base) == ("standard", "standard")


def test_shapes_are_whitened_leading_components() -> None:
    table = stars()
    found = make_features(table, "shape")
    assert found.names == SHAPES == SETS["shape"]
    correction = load_correction()
    assert correction is not None
    grid = np.arange(400.0, 990.5, 2.0)
    level = xpjax.spectra(table, grid, errors=False, float64=True).flux.mean(axis=1)
    off = np.asarray(table.coefficients.value) / level[:, None] - correction.center
    size, vector = np.linalg.eigh(correction.root @ correction.root.T)
    expected = off @ vector[:, ::-1][:, :10] / np.sqrt(size[::-1][:10])
    sign = np.sign((expected * found.value).sum(axis=0))
    np.testing.assert_allclose(found.value[:, :6], (expected * sign)[:, :6], rtol=1e-5, atol=1e-5)
    some = make_features(table, ("G", "shape-3"))
    np.testing.assert_array_equal(some.value[:, 1], found.value[:, 2])
    cut = make_features(table, "shape", truncate=True).value
    assert np.nanmax(np.abs(cut - found.value)) > 0
    broken = np.array(table.coefficients.value)
    broken[2, table.release.slices[0]] = np.nan
    assert np.isnan(make_features(broken, "shape").value[2]).all()
    with pytest.raises(ValueError, match="made of coefficients"):
        make_features({"G": np.ones(3)}, ("G", "shape-1"))


def test_features_of_corrected_spectra() -> None:
    table = stars()[np.arange(10)]
    found, raw = (make_features(table, ("g-i", "G"), correction=c, float64=True) for c in ("standard", None))
    seen = xpjax.photometry(table, "SkyMapper:g,i", correction="standard", errors=False, float64=True).magnitude
    np.testing.assert_allclose(found.value[:, 0], seen[:, 0] - seen[:, 1], atol=1e-12)
    assert np.abs(found.value - raw.value).max() > 1e-4
    assert (found.base, raw.base) == ("standard", "none")
