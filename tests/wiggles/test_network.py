"""Corrections of spectra against NumPy, of photometry against the long way, and the model's files."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

import xpjax
from tests.wiggles.helpers import made_model, star_features, stars
from xpjax.core.status import Status
from xpjax.extinction import extinction_curve
from xpjax.synthetic.magnitude import Photometer
from xpjax.synthetic.projection import band_flux, curves_of, zero_point
from xpjax.wiggles.features import Features, make_features
from xpjax.wiggles.magnitude import CorrectedPhotometer, Correcting, absolute_scale, corrected_photometry
from xpjax.wiggles.network import (
    Limits,
    SystematicTable,
    WiggleCorrection,
    applicable,
    correct_spectra,
    from_torch_state,
    read_network,
    systematic_error,
    write_network,
)
from xpjax.xp.wavelengths import constant_grid, variable_grid

ANY = Limits(None, None, None)


def fine_grid(model: WiggleCorrection) -> np.ndarray:
    """Dense samples that hold the correction's own wavelengths and the ends of its blend."""
    own = np.asarray(model.wavelength)
    ends = [own[0] - float(model.blend), own[-1] + float(model.blend)]
    return np.unique(np.concatenate([np.arange(330.0, 1050.0, 0.1), own, ends, [1050.0]]))


def by_hand(model: WiggleCorrection, flux: np.ndarray, grid: np.ndarray, table: Features) -> np.ndarray:
    """The paper's steps one after another, in NumPy: deredden, normalise, add, rescale, redden."""
    out = []
    own = np.asarray(model.wavelength)
    per = float(model.per_ebv) if model.dereddens else 0.0
    for f, x, ebv in zip(flux, table.select(model.names).value, table.ebv, strict=True):
        patterns = []
        for network in model.networks:
            h = (x - model.feature_mean) / model.feature_scale
            for k, (weight, bias) in enumerate(zip(network.weight, network.bias, strict=True)):
                h = h @ weight + bias
                h = np.maximum(h, 0) if k < len(network.weight) - 1 else h
            patterns.append(h)
        w = np.interp(grid, own, np.mean(patterns, axis=0))
        t = np.clip(np.maximum(own[0] - grid, grid - own[-1]) / float(model.blend), 0, 1)
        w *= 1 - t**2 * (3 - 2 * t)
        if model.kind == "multiplicative":
            out.append(f * (1 + w))
            continue
        clear = f * 10 ** (0.4 * per * ebv * extinction_curve(grid))
        mean = np.mean(CubicSpline(grid, clear)(own))
        out.append(mean * (clear / mean + w) * 10 ** (-0.4 * per * ebv * extinction_curve(grid)))
    return np.array(out)


@functools.cache
def fine_spectra(n: int = 60) -> xpjax.Spectra:
    return xpjax.spectra(stars()[:n], fine_grid(made_model()), errors=False, float64=True)


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize("space", ["dereddened", "observed"])
def test_spectra_follow_the_papers_steps(kind: str, space: str) -> None:
    model = made_model(kind=kind, space=space, n_network=2)
    spectra, table = fine_spectra(), star_features()[:60]
    found = correct_spectra(spectra, model, table, limits=ANY, float64=True)
    assert not found.status.any()
    expected = by_hand(model, spectra.flux, spectra.wavelength, table)
    np.testing.assert_allclose(found.flux, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert np.abs(found.flux / spectra.flux - 1)[:, 1000:5000].max() > 0.02


@pytest.mark.parametrize("system", ["JPLUS", pytest.param("Gaia_DR3_Vega", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("fields", "tolerance"),
    [
        ({}, 1e-5),
        pytest.param({"space": "observed"}, 1e-5, marks=pytest.mark.slow),
        pytest.param({"n_network": 2}, 1e-5, marks=pytest.mark.slow),
        ({"kind": "multiplicative", "smooth": 10.0}, 5e-5),
    ],
    ids=["dereddened", "observed", "ensemble", "multiplicative"],
)
def test_photometry_equals_the_long_way(system: str, fields: dict, tolerance: float) -> None:
    """Spectra corrected on a dense grid and integrated, against folded matrices in float32."""
    model, table, sources = made_model(**fields), star_features()[:60], stars()[:60]
    curves = xpjax.load_passbands(system)
    spectra = correct_spectra(fine_spectra(), model, table, limits=ANY, float64=True)
    found = corrected_photometry(
        sources, curves, model, table, system=xpjax.passband_system(curves), errors=False, limits=ANY
    )
    plain = xpjax.photometry(sources, xpjax.passband_system(curves), errors=False, float64=True)
    changed = np.nanmax(np.abs(found.magnitude - plain.magnitude), axis=0)
    assert changed.max() > 0.01
    for k, band in enumerate(curves):
        if band.wavelength[0] < 330 or band.wavelength[-1] > 1050:
            continue
        # Of the correction alone: band_flux draws straight lines between samples, photometry does not.
        before = band_flux(band, spectra.wavelength, fine_spectra().flux)
        after = band_flux(band, spectra.wavelength, spectra.flux)
        flux = plain.flux[:, k] + after - before
        good = (flux > 0.2 * np.abs(plain.flux[:, k])) & (plain.flux[:, k] > 0)
        long = -2.5 * np.log10(flux[good]) + zero_point(band)
        difference = np.abs(found.magnitude[good, k] - long)
        assert np.nanmax(difference) < tolerance, (band.name, np.nanmax(difference))


@pytest.mark.slow
def test_high_reddening_needs_more_terms_and_gets_them() -> None:
    model = made_model()
    sources = stars()[:40]
    table = dataclasses.replace(star_features()[:40], ebv=np.linspace(0, 4, 40))
    curves = xpjax.load_passbands("JPLUS:gJPLUS,iJPLUS")
    options = {"system": xpjax.passband_system(curves), "errors": False, "limits": ANY}
    together = corrected_photometry(sources, curves, model, table, **options)
    alone = [
        corrected_photometry(sources[k : k + 1], curves, model, table[np.array([k])], float64=True, **options).magnitude
        for k in (0, 20, 39)
    ]
    np.testing.assert_allclose(together.magnitude[[0, 20, 39]], np.concatenate(alone), atol=3e-5)


def test_a_photometer_makes_its_features_and_agrees() -> None:
    model, sources = made_model(), stars()[:20]
    ebv = np.linspace(0.05, 0.25, 20)
    curves, system = xpjax.load_passbands("JPLUS"), xpjax.load_system("JPLUS")
    table = make_features(sources, ebv=ebv)
    a = corrected_photometry(sources, curves, model, table, system=system, errors=False, limits=ANY)
    how = Correcting(model, curves_of(system), ebv="ebv", limits=ANY)
    photometer = CorrectedPhotometer.prepare(Photometer(system, errors=False), how)
    assert how.columns == ("ebv",)
    b = photometer(dataclasses.replace(sources, columns={"ebv": ebv}))
    np.testing.assert_allclose(a.magnitude, b.magnitude, atol=5e-6)
    assert not a.status.any()
    np.testing.assert_array_equal(a.status, b.status)
    narrow = CorrectedPhotometer.prepare(Photometer(system, errors=False), how, ebv_range=(0.0, 0.2))
    c = narrow(dataclasses.replace(sources, columns={"ebv": ebv}))
    beyond = ebv > 0.2
    np.testing.assert_array_equal((c.status & np.uint32(Status.OUTSIDE_LIMITS)) != 0, beyond)
    np.testing.assert_allclose(c.magnitude[~beyond], a.magnitude[~beyond], atol=5e-6)
    with pytest.raises(ValueError, match="ebv"):
        photometer(sources)
    with pytest.raises(ValueError, match="needs E"):
        Correcting(model, curves_of(system))
    with pytest.raises(ValueError, match="no transmission curve"):
        curves_of(dataclasses.replace(system, labels=("Mine",) * system.n_band))


def test_published_names_use_published_projections() -> None:
    model, table, sources = made_model(amplitude=0.0), star_features()[:20], stars()[:20]
    found = corrected_photometry(sources, "JPLUS", model, table, errors=False, float64=True, limits=ANY)
    plain = xpjax.photometry(sources, "JPLUS", errors=False, float64=True)
    np.testing.assert_allclose(found.magnitude, plain.magnitude, rtol=1e-12)
    with pytest.raises(ValueError, match="standardised"):
        corrected_photometry(sources, "SDSS_Std", model, table)


def test_other_grids_interpolate_the_mean() -> None:
    """The archive's grid of 2 nm, against the dense one at the same wavelengths."""
    model, table = made_model(), star_features()[:60]
    coarse = correct_spectra(xpjax.spectra(stars()[:60], float64=True, errors=False), model, table, limits=ANY)
    dense = correct_spectra(fine_spectra(), model, table, limits=ANY, float64=True)
    change = coarse.flux - xpjax.spectra(stars()[:60], float64=True, errors=False).flux
    expected = np.stack(
        [np.interp(coarse.wavelength, dense.wavelength, row) for row in dense.flux - fine_spectra().flux]
    )
    np.testing.assert_allclose(change, expected, atol=2e-4 * np.abs(expected).max())


def test_beyond_its_wavelengths_it_ends_smoothly() -> None:
    model = made_model()
    x = np.array([340.0, 349.9, 355.0, 360.0, 990.0, 995.0, 1000.1])
    matrix = model.interpolation(x).toarray()
    np.testing.assert_allclose(matrix.sum(axis=1), [0, 0, 0.5, 1, 1, 0.5, 0], atol=1e-12)


@pytest.mark.slow
def test_errors_hold_the_features_errors() -> None:
    """Against the scatter of many noisy copies, their features made anew: within 10 % at the median."""
    sources = stars(40, correlations=True)
    model = made_model(names="no-ebv", space="observed")
    rng = np.random.default_rng(3)
    star = 7
    c = sources.coefficients
    roots = [
        np.linalg.cholesky(xpjax.covariance_matrix(sources[star : star + 1], xp)[0] + 1e-12 * np.eye(n))
        for xp, n in zip(("bp", "rp"), sources.release.n_basis, strict=True)
    ]
    z = rng.normal(size=(4000, sources.release.n_basis_total))
    value = np.repeat(c.value[star : star + 1], len(z), axis=0)
    for root, rows in zip(roots, sources.release.slices, strict=True):
        value[:, rows] += z[:, rows] @ root.T
    noisy = xpjax.XPCoefficients(value)
    grid = np.arange(350.0, 1001.0, 5.0)
    scatter = correct_spectra(
        xpjax.spectra(noisy, grid, errors=False, float64=True), model, make_features(noisy, "no-ebv"), limits=ANY
    ).flux.std(axis=0)
    one = sources[star : star + 1]
    told = correct_spectra(
        xpjax.spectra(one, grid, float64=True), model, make_features(one, "no-ebv", errors=True), limits=ANY
    )
    ratio = told.flux_error[0] / scatter
    assert 0.9 < np.median(ratio) < 1.1, np.median(ratio)
    assert ratio.min() > 0.6, ratio.min()
    assert ratio.max() < 1.6, ratio.max()
    curves = xpjax.load_passbands("JPLUS")
    mags = corrected_photometry(
        noisy, "JPLUS", model, make_features(noisy, "no-ebv"), errors=False, limits=ANY
    ).magnitude
    told_mag = corrected_photometry(one, "JPLUS", model, make_features(one, "no-ebv", errors=True), limits=ANY)
    ratio = told_mag.magnitude_error[0] / np.nanstd(mags, axis=0)
    assert len(ratio) == len(curves)
    assert ratio.min() > 0.6, ratio
    assert ratio.max() < 1.6, ratio


def test_what_is_not_corrected_passes_through_flagged() -> None:
    model, sources = made_model(), stars()[:8]
    table = star_features()[:8]
    value, ebv = table.value.copy(), table.ebv.copy()
    value[0, 3] = np.nan
    value[1, 7] = model.high[7] + 1
    ebv[2] = np.nan
    table = dataclasses.replace(table, value=value, ebv=ebv)
    teff, mh = np.full(8, 5000.0), np.zeros(8)
    teff[3], mh[4], teff[5] = 9000, -2.6, np.nan
    options = {"teff": teff, "mh": mh}
    apply, bits = applicable(model, table, **options)
    reasons = [Status.FEATURE_MISSING, Status.OUTSIDE_TRAINING, Status.FEATURE_MISSING, *[Status.OUTSIDE_LIMITS] * 2]
    np.testing.assert_array_equal(bits[:5], [int(b | Status.NOT_CORRECTED) for b in reasons])
    assert not bits[5:].any()
    spectra = xpjax.spectra(sources, errors=False)
    found = correct_spectra(spectra, model, table, **options)
    np.testing.assert_allclose(found.flux[~apply], spectra.flux[~apply], rtol=1e-6)
    assert np.all(np.abs(found.flux[apply] - spectra.flux[apply]).max(axis=1) > 0)
    np.testing.assert_array_equal(found.status, bits)
    plain = xpjax.photometry(sources, "JPLUS", errors=False)
    mags = corrected_photometry(sources, "JPLUS", model, table, errors=False, **options)
    np.testing.assert_allclose(mags.magnitude[~apply], plain.magnitude[~apply], atol=1e-5)
    np.testing.assert_array_equal(mags.status & np.uint32(Status.NOT_CORRECTED) != 0, ~apply)
    limits = Limits(teff=None, mh=None, av=0.0)
    assert not applicable(model, table, limits=limits)[0].any()


@pytest.mark.slow
def test_a_missing_photometer_is_not_corrected_but_the_other_is_given() -> None:
    sources = stars()[:3]
    value = sources.coefficients.value.copy()
    value[1, sources.release.slices[0]] = np.nan
    table, model = star_features()[:3], made_model()
    found = corrected_photometry(
        xpjax.SourceTable(sources.source_id, xpjax.XPCoefficients(value), np.zeros(3, np.uint32)),
        "JPLUS", model, table, errors=False, limits=ANY,
    )  # fmt: skip
    plain = xpjax.photometry(sources, "JPLUS", errors=False)
    assert found.status[1] & Status.NOT_CORRECTED
    assert found.status[1] & Status.BP_MISSING
    assert not (found.status[[0, 2]]).any()
    np.testing.assert_allclose(found["zJPLUS"][1], plain["zJPLUS"][1], atol=1e-5)
    assert np.isnan(found["gJPLUS"][1])


def test_systematic_errors_are_kept_apart() -> None:
    grid = constant_grid()
    table = SystematicTable(
        np.array([0.0, 2.0]), np.array([10.0, 18.0]), np.array([0.3]), np.full((2, 2, 1, len(grid)), 0.01)
    )
    table = dataclasses.replace(table, value=np.asarray(table.value) * np.array([1, 2])[None, :, None, None])
    model = made_model(systematic=table)
    stars_ = star_features()[:30]
    found = corrected_photometry(stars()[:30], "JPLUS", model, stars_, errors=False, limits=ANY)
    g = stars_.value[:, stars_.names.index("G")]
    weight = 1 + np.clip((g - 10) / 8, 0, 1)
    left = systematic_error(model, stars_)
    np.testing.assert_allclose(left, 0.01 * weight[:, None] * np.ones(len(grid)), rtol=1e-6)
    # A constant 1 % of the mean flux, seen through a band in which the flux is the mean: about 0.011 mag.
    assert found.systematic is not None
    assert np.all(np.nanmedian(found.systematic / weight[:, None], axis=0) < 0.2)
    assert np.nanmedian(found.systematic[:, 7] / weight) == pytest.approx(0.011, rel=0.5)
    assert "Jplus_mag_systematic_gJPLUS" in found.catalogue().columns
    without = corrected_photometry(stars()[:30], "JPLUS", made_model(), stars_, errors=False, limits=ANY)
    assert without.systematic is None


@pytest.mark.slow
def test_ensembles_tell_their_scatter() -> None:
    model, table = made_model(n_network=3), star_features()[:30]
    found = corrected_photometry(stars()[:30], "JPLUS", model, table, errors=False, limits=ANY, float64=True)
    each = [
        corrected_photometry(
            stars()[:30], "JPLUS", dataclasses.replace(model, networks=(n,)), table,
            errors=False, limits=ANY, float64=True,
        ).flux for n in model.networks
    ]  # fmt: skip
    np.testing.assert_allclose(found.flux, np.mean(each, axis=0), rtol=1e-9)
    expected = 2.5 / np.log(10) * np.std(each, axis=0, ddof=1) / found.flux
    good = found.flux > 0
    np.testing.assert_allclose(found.systematic[good], expected[good], rtol=1e-6)


@pytest.mark.slow
def test_tied_spectra_have_the_given_magnitude() -> None:
    model, table, sources = made_model(), star_features()[:10], stars()[:10]
    given = sources.columns["phot_g_mean_mag"] + 0.01
    scale = absolute_scale(sources, model, table, given, limits=ANY)
    found = corrected_photometry(sources, "Gaia_DR3_Vega", model, table, errors=False, limits=ANY)
    np.testing.assert_allclose(found["G"] - 2.5 * np.log10(scale), given, atol=1e-5)


def test_grids() -> None:
    grid = constant_grid()
    assert len(grid) == 330
    np.testing.assert_allclose(np.diff(np.log(grid)), np.log(990 / 360) / 329, rtol=1e-9)
    own = variable_grid([350.0, 1000.0], [50.0, 50.0], 100, (400.0, 800.0))
    np.testing.assert_allclose(own, np.geomspace(400, 800, 100), rtol=1e-6)


def test_the_variable_grid_of_the_paper(shared: Callable[[str], Path]) -> None:
    """270 points from 360 to 992.1 nm with one share of a resolution element; it is a fifth, not a half."""
    table = np.loadtxt(shared("xp_lsf/xp_resolution.csv"), delimiter=",", skiprows=1)
    grid = variable_grid(table[:, 0], table[:, 1])
    assert (len(grid), grid[0], grid[-1]) == (270, 360.0, 992.1)
    middle = 0.5 * (grid[1:] + grid[:-1])
    share = np.diff(grid) / middle * np.interp(middle, table[:, 0], table[:, 1])
    np.testing.assert_allclose(share, np.median(share), rtol=0.02)
    assert np.median(share) == pytest.approx(0.2, rel=0.02)


def test_files(tmp_path: Path) -> None:
    table = SystematicTable(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros((1, 1, 1, 330)))
    model = made_model(n_network=2, kind="multiplicative", truncate=True, record='{"a": 1}', systematic=table)
    path = tmp_path / "model.h5"
    write_network(path, model)
    back = read_network(path)
    assert jax.tree.structure(back) == jax.tree.structure(model)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(FileExistsError):
        write_network(path, model)
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(ValueError, match="version 99"):
        read_network(path)
    (tmp_path / "other.h5").write_text("x")
    with pytest.raises(ValueError, match="no file of a wiggle correction"):
        read_network(tmp_path / "other.h5")


def test_torch_states(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = [14, 8, 6, 330]
    state = {}
    for k, (a, b) in enumerate(itertools.pairwise(sizes)):
        state[f"net.{2 * k}.weight"], state[f"net.{2 * k}.bias"] = rng.normal(size=(b, a)), rng.normal(size=b)
    scaler = {"mean_": rng.normal(size=14), "scale_": rng.uniform(1, 2, 14)}
    output = {"mean": rng.normal(size=330), "scale": rng.uniform(1, 2, 330)}
    names = star_features().names
    np.savez(tmp_path / "state.npz", **state)
    model = from_torch_state(tmp_path / "state.npz", scaler, names=names, output_scaler=output)
    x = rng.normal(size=14)
    h = (x - scaler["mean_"]) / scaler["scale_"]
    for k in range(3):
        h = state[f"net.{2 * k}.weight"] @ h + state[f"net.{2 * k}.bias"]
        h = np.maximum(h, 0) if k < 2 else h
    with xpjax.core.engine.precision(True):
        found = np.asarray(model.pattern(x))
    np.testing.assert_allclose(found, h * output["scale"] + output["mean"], rtol=1e-5, atol=1e-5)
    assert applicable(model, star_features())[0].mean() > 0.9
    with pytest.raises(ValueError, match="Linear layers"):
        from_torch_state({"a.weight": np.zeros((3, 3, 3)), "a.bias": np.zeros(3)}, scaler, names=names)
    with pytest.raises(ValueError, match="do not lead from"):
        from_torch_state({"a.weight": np.zeros((3, 3)), "a.bias": np.zeros(3)}, scaler, names=names)
    with pytest.raises(ValueError, match="mean_ and scale_"):
        from_torch_state(state, {"mean_": scaler["mean_"]}, names=names)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"source_id": np.arange(8)}, "not of these sources"),
        ({"names": tuple("abcdefghijklmn")}, "are needed"),
        ({"ebv": None}, "dereddens"),
    ],
)
def test_wrong_features(change: dict, match: str) -> None:
    table = dataclasses.replace(star_features()[:8], **change)
    with pytest.raises(ValueError, match=match):
        correct_spectra(xpjax.spectra(stars()[:8], errors=False), made_model(), table)
    with pytest.raises(ValueError, match=match):
        corrected_photometry(stars()[:8], "JPLUS", made_model(), table)


def test_wrong_spectra_and_models() -> None:
    model, table, sources = made_model(), star_features()[:2], stars()[:2]
    with pytest.raises(ValueError, match="cover 400"):
        correct_spectra(xpjax.spectra(sources, np.arange(400.0, 800.0), errors=False), model, table)
    with pytest.raises(ValueError, match="internal"):
        correct_spectra(xpjax.spectra(sources, internal=True, errors=False), model, table)
    with pytest.raises(ValueError, match="truncate=True"):
        correct_spectra(xpjax.spectra(sources, errors=False), made_model(truncate=True), table)
    with pytest.raises(ValueError, match="kind 'odd'"):
        made_model(kind="odd")


@pytest.mark.slow
def test_truncated_photometry_corrects_truncated_spectra() -> None:
    model, sources = made_model(truncate=True), stars()[:20]
    table = dataclasses.replace(star_features()[:20], truncate=None)  # the same for both
    found = corrected_photometry(sources, "JPLUS:gJPLUS", model, table, errors=False, limits=ANY)
    value = sources.coefficients.value.copy()
    for k, rows in enumerate(sources.release.slices):
        for row, n in zip(value, sources.coefficients.n_relevant[:, k], strict=True):
            row[rows][n:] = 0
    cut = xpjax.SourceTable(sources.source_id, xpjax.XPCoefficients(value), np.zeros(20, np.uint32))
    expected = corrected_photometry(
        cut, "JPLUS:gJPLUS", dataclasses.replace(model, truncate=False), table, errors=False, limits=ANY
    )
    np.testing.assert_allclose(found.magnitude, expected.magnitude, atol=1e-5)
