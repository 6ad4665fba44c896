"""Labels of XP sources: from coefficients, from sampled spectra, through dust, with a correction between two fits."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.stellar.helpers import NAMES, NODES, WAVELENGTH, made_labels, spectrum
from xpjax.core.records import Catalogue
from xpjax.core.release import DR3
from xpjax.core.status import FitStatus, Status
from xpjax.extinction import AV_PER_SFD, extinction_curve
from xpjax.io.catalogue import write
from xpjax.stellar import fitter as module
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.fitter import LabelFitter
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.grid_file import grid_digest, write_grid
from xpjax.stellar.interpolation import interpolate_grid, model_spectra
from xpjax.stellar.label_files import fit_label_files
from xpjax.stellar.results import SELECTIONS, select_labels
from xpjax.wiggles.choice import NetworkCorrection
from xpjax.wiggles.comparison import Trust, make_residuals
from xpjax.wiggles.epochs import TrainingSettings
from xpjax.wiggles.features import make_features
from xpjax.wiggles.limits import Limits
from xpjax.wiggles.training import train_network
from xpjax.xp.sources import SourceTable, XPCoefficients

DENSE = np.arange(331.0, 1049.5, 1.0)


@functools.cache
def solver() -> np.ndarray:
    """From spectra at DENSE to coefficients."""
    return np.linalg.pinv(np.asarray(xpjax.load_instrument().design(DENSE).value), rcond=1e-4)


def seen(flux: np.ndarray) -> np.ndarray:
    """Spectra at DENSE as XP sees them, at WAVELENGTH, over their mean."""
    flux = flux @ solver() @ np.asarray(xpjax.load_instrument().design(WAVELENGTH).value)
    return flux / flux.mean(axis=-1, keepdims=True)


@functools.cache
def xp_grid() -> StellarGrid:
    labels = np.stack(np.meshgrid(*NODES, indexing="ij"), axis=-1)
    return StellarGrid(NODES, seen(spectrum(labels, DENSE)), WAVELENGTH, NAMES)


def made_sources(
    n: int, noise: float = 1e-4, dusty: bool = False, wiggle: float = 0.0
) -> tuple[SourceTable, np.ndarray]:
    """Sources of known labels; the wiggle goes with the color, in the space of dereddened flux over its mean."""
    labels = made_labels(n, seed=4)
    labels = labels * 0.8 + 0.1 * sum(np.array([[x[k] for x in NODES]]) for k in (0, -1))
    rng = np.random.default_rng(2)
    flux = spectrum(labels, DENSE)
    cool = (labels[:, :1] - 5000) / 1000
    flux = flux + wiggle * np.sin(DENSE / 14) * (1 + cool) * (DENSE < 640) * flux.mean(axis=1, keepdims=True)
    ebv = rng.uniform(0, 0.4, n) * dusty
    flux = flux * 10 ** (-0.4 * AV_PER_SFD * ebv[:, None] * extinction_curve(DENSE))
    value = flux @ solver() * 100
    error = noise * np.abs(value).max(axis=1, keepdims=True) * np.ones_like(value)
    value = value + error * rng.normal(size=value.shape)
    coefficients = XPCoefficients(
        value, error, np.zeros((n, DR3.n_pair_total)), np.broadcast_to(np.array(DR3.n_basis), (n, 2)).copy()
    )
    columns = {"ebv": ebv, "ra": np.arange(n) * 1.0}
    return SourceTable(np.arange(1, n + 1) << 40, coefficients, np.zeros(n, np.uint32), columns), labels


def scatter(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return 1.48 * np.median(np.abs(found - labels), axis=0)


@pytest.mark.slow
def test_labels_are_found_with_honest_errors() -> None:
    table, labels = made_sources(60)
    fits = LabelFitter(interpolate_grid(xp_grid()), None, error_floor=1e-3, float64=True)(table)
    assert (fits.fit.status == FitStatus.OK).mean() > 0.9
    assert np.all(scatter(fits.fit.labels, labels) < [10, 0.05, 0.02])
    assert np.all(scatter(made_labels(60, 9), labels) > [300, 0.2, 0.2])  # any labels would not do
    columns = fits.catalogue({"ra": table.columns["ra"]}).columns
    assert [*columns][:4] == ["source_id", "teff", "logg", "mh"]
    assert [*columns][-2:] == ["fit_status", "xp_status"] or {"fit_status", "xp_status", "ra"} <= {*columns}
    dusty, labels = made_sources(60, dusty=True)
    with_dust = LabelFitter(interpolate_grid(xp_grid()), None, "ebv", error_floor=1e-3)(dusty)
    assert np.all(scatter(with_dust.fit.labels, labels) < [30, 0.1, 0.06])
    without = LabelFitter(interpolate_grid(xp_grid()), None, error_floor=1e-3)(dusty)
    assert scatter(without.fit.labels, labels)[0] > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [("noise", 78, 80), ("truncated", 5, 6), ("templates", 78, 88), ("compact", 78, 80), ("dust", 78, 80)],
)
def test_dof_is_the_chi2_to_be_expected(kind: str, least: float, most: float) -> None:
    """Of the noise that coefficients bring into 80 samples, and of what is common to stars; floors do not count."""
    table, labels = made_sources(600, 1e-3, dusty=kind == "dust")
    grid, rng, c = xp_grid(), np.random.default_rng(6), table.coefficients
    if kind == "truncated":  # models too, that only the noise that is left out is missing
        kept = np.arange(110) % 55 < 15
        every = np.stack(np.meshgrid(*NODES, indexing="ij"), axis=-1)
        flux = (spectrum(every, DENSE) @ solver() * kept) @ np.asarray(xpjax.load_instrument().design(WAVELENGTH).value)
        grid = dataclasses.replace(grid, flux=flux / flux.mean(axis=-1, keepdims=True))
        c = dataclasses.replace(c, n_relevant=np.full((600, 2), 15))
    if kind == "templates":
        wide = 0.02 * np.array([np.cos(k * np.pi * (DENSE - 331) / 718) for k in range(1, 9)])
        grid = dataclasses.replace(grid, systematic=np.array([np.interp(WAVELENGTH, DENSE, row) for row in wide]))
        value = (spectrum(labels, DENSE) * (1 + rng.normal(size=(600, 8)) @ wide)) @ solver() * 100
        c = dataclasses.replace(c, value=value + c.error * rng.normal(size=value.shape))
    if kind == "compact":
        c = c.compact()
    table = dataclasses.replace(table, coefficients=c)
    fitter = LabelFitter(interpolate_grid(grid), None, "ebv" if kind == "dust" else 0.0)
    fit = fitter(table).fit
    good = fit.status == 0
    assert good.mean() > 0.8
    assert least < np.median(fit.dof[good]) < most, "samples are not independent"
    np.testing.assert_allclose(np.mean(fit.chi2[good]) / np.mean(fit.dof[good]), 1, atol=0.04)
    wide = dataclasses.replace(fitter, float64=True)(table).fit
    np.testing.assert_allclose(fit.dof[good], wide.dof[good], rtol=2e-3)
    floor = dataclasses.replace(fitter, error_floor=0.02)(table).fit
    np.testing.assert_array_equal(floor.dof, len(WAVELENGTH) - 4)


@pytest.mark.slow
def test_pieces_and_sampled_spectra_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = made_sources(20)
    fitter = LabelFitter(interpolate_grid(xp_grid()), None, error_floor=1e-3)
    whole = fitter(table)
    told: list[int] = []
    monkeypatch.setattr(module, "ROWS", 7)
    pieces = fitter(table, progress=told.append)
    assert told == [7, 14, 20]
    np.testing.assert_allclose(pieces.fit.labels, whole.fit.labels, rtol=1e-5)
    made = xpjax.spectra(table, WAVELENGTH, truncate=True)
    made = dataclasses.replace(made, flux_error=xpjax.spectra(table, WAVELENGTH).flux_error)
    sampled = fitter.fit(made)
    np.testing.assert_allclose(sampled.fit.labels, whole.fit.labels, rtol=1e-5)
    finer = fitter.fit(xpjax.spectra(table, np.arange(350.0, 1001.0, 0.5)))
    assert scatter(finer.fit.labels, whole.fit.labels)[0] < 10


def test_one_bad_source_harms_no_other() -> None:
    table, _ = made_sources(20)
    fitter = LabelFitter(interpolate_grid(xp_grid()), None, error_floor=1e-3)
    whole = fitter(table)
    value = table.coefficients.value.copy()
    value[3] = np.nan
    bad = dataclasses.replace(table, coefficients=dataclasses.replace(table.coefficients, value=value))
    found = fitter(bad)
    assert found.fit.status[3] == FitStatus.BAD_INPUT
    assert np.isnan(found.fit.labels[3]).all()
    rest = np.arange(20) != 3
    np.testing.assert_array_equal(found.fit.labels[rest], whole.fit.labels[rest])


@pytest.mark.slow
def test_a_source_without_one_xp_is_fitted_on_the_other() -> None:
    table, _ = made_sources(20)
    model = interpolate_grid(xp_grid())
    fitter = LabelFitter(model, None, error_floor=0.02)
    whole = fitter(table)
    value = table.coefficients.value.copy()
    value[3, table.coefficients.release.slices[0]] = np.nan
    half = dataclasses.replace(table, coefficients=dataclasses.replace(table.coefficients, value=value))
    found = fitter(half)
    assert not found.fit.status[3] & FitStatus.BAD_INPUT
    assert found.status[3] & Status.BP_MISSING
    made = xpjax.spectra(half, WAVELENGTH)
    there = np.isfinite(made.flux[3])
    assert 20 < there.sum() < len(WAVELENGTH)
    assert found.fit.dof[3] == whole.fit.dof[3] - (~there).sum()
    filled = np.nan_to_num(made.flux[3:4], nan=7.0)  # whatever stands there does not count
    alone = fit_labels(filled, made.flux_error[3:4], model, used=there, error_floor=0.02)
    np.testing.assert_array_equal(found.fit.labels[3], alone.labels[0])
    rest = np.arange(20) != 3
    np.testing.assert_array_equal(found.fit.labels[rest], whole.fit.labels[rest])


@pytest.mark.slow
def test_the_loop_closes() -> None:
    """Wiggles injected, fitted, learned, corrected, fitted again: what they did to the labels is mostly gone."""
    names = ("BP-RP", "G", "E(B-V)")
    model = interpolate_grid(xp_grid())
    learn, labels = made_sources(400, noise=1e-5, wiggle=0.03, dusty=True)
    made = xpjax.spectra(learn, WAVELENGTH, truncate=True)
    stars = make_features(learn, names, ebv="ebv", truncate=True)
    first = LabelFitter(model, None, "ebv", error_floor=0.02)(learn)
    reference = dict(zip(NAMES, labels.T, strict=True))
    fitted = dict(zip(NAMES, first.fit.labels.T, strict=True))
    data, counts = make_residuals(
        stars, WAVELENGTH, made.flux, model_spectra(model, labels), flux_error=made.flux_error, fitted=fitted,
        reference=reference, trust=Trust(10.0, {"teff": 1000.0, "logg": 2.0, "mh": 2.0}),
    )  # fmt: skip
    assert len(data) + sum(counts.values()) == 400
    correction = train_network(data, TrainingSettings(widths=(32, 32), epochs=150, batch=64, learning_rate=3e-3))
    how = NetworkCorrection(correction, ebv="ebv", limits=Limits(None, None, None))
    again = LabelFitter(model, how, "ebv", error_floor=0.02)(learn)
    assert again.before is not None
    before, after = (np.abs(np.nanmedian(fit.labels - labels, axis=0)) for fit in (again.before, again.fit))
    assert np.all(scatter(again.fit.labels, labels) < 0.7 * scatter(again.before.labels, labels))
    assert after[0] < 0.5 * before[0] or after[0] < 10
    assert np.nanmean(again.fit.dflux_per) < 0.5 * np.nanmean(again.before.dflux_per)
    columns = again.catalogue().columns
    assert {"teff_before", "dflux_per_before", "fit_status_before"} <= {*columns}


def test_selections_and_refusals() -> None:
    model = interpolate_grid(xp_grid())
    n = 6
    table = Catalogue(
        {
            "source_id": np.arange(n),
            "teff": np.array([5000.0, 3900, 5000, 5000, 5000, np.nan]),
            "dflux_per": np.array([1.0, 1, 9, 1, 1, 1]),
            "dflux_per_before": np.array([10.0, 1, 10, 21, 1, 1]),
            "fit_status": np.array([0, 0, 0, 0, 1, 0], np.uint32),
        }
    )
    rows, warnings = select_labels(table, "good", model)
    assert rows.tolist() == [True, False, False, False, False, False]
    assert any("the grid ends at 4000 and 6200" in line for line in warnings)
    assert select_labels(table, "learn", model)[0].tolist() == [True, False, True, True, False, False]
    assert set(SELECTIONS) == {"learn", "good", "metal-poor"}
    with pytest.raises(ValueError, match="needs mh"):
        select_labels(table, "metal-poor", model, np.zeros(n))
    with pytest.raises(ValueError, match="choose from learn"):
        select_labels(table, "best", model)
    sources, _ = made_sources(4)
    bare = dataclasses.replace(sources, coefficients=XPCoefficients(sources.coefficients.value))
    with pytest.raises(ValueError, match="no n_relevant_bases"):
        LabelFitter(model, truncate=True)(bare)
    with pytest.raises(ValueError, match="give an error floor"):
        LabelFitter(model)(bare)
    compact = dataclasses.replace(sources, coefficients=sources.coefficients.compact())
    assert [LabelFitter(model).truncated(table) for table in (sources, bare, compact)] == [True, False, True]
    with pytest.raises(ValueError, match="has no column av"):
        LabelFitter(model, ebv="av", error_floor=0.01)(sources)
    with pytest.raises(ValueError, match=r"the spectra cover 400\.\.900 nm, the grid needs 360\.\.990"):
        LabelFitter(model).fit(xpjax.spectra(sources, np.arange(400.0, 901.0, 2)))


def test_a_fitter_takes_files_and_words(tmp_path: Path) -> None:
    write_grid(xp_grid(), tmp_path / "g.h5")
    fitter = LabelFitter(tmp_path / "g.h5", error_floor=0.01)
    assert fitter.linear is not None
    assert fitter.linear.name == "standard"
    assert LabelFitter(xp_grid(), "none").linear is LabelFitter(xp_grid(), None).linear is None
    assert fitter.about == {"grid": "g.h5", "grid_digest": grid_digest(xp_grid())}
    dusty = LabelFitter(xp_grid(), fit_ebv=[0.0, 0.2, 0.4])
    assert dusty.model.names == (*NAMES, "ebv")
    assert dusty.about == {"grid_digest": grid_digest(xp_grid())}, "of the grid as its file has it"
    with pytest.raises(ValueError, match="ebv takes the reddening off, fit_ebv fits it: choose one"):
        LabelFitter(xp_grid(), ebv="ebv", fit_ebv=[0.0, 0.2])


@pytest.mark.slow
def test_labels_of_files(tmp_path: Path) -> None:
    table, _ = made_sources(20)
    first, second = table[:8], table[8:]
    write(tmp_path / "a.parquet", dataclasses.replace(first, columns={"n": np.arange(8)}).catalogue())
    write(tmp_path / "b.parquet", dataclasses.replace(second, columns={"n": np.arange(12) + 0.5}).catalogue())
    fitter = LabelFitter(xp_grid(), "standard", 0, error_floor=1e-3)
    told: list[tuple[str, int, int]] = []
    inputs = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    fits = fit_label_files(inputs, fitter, keep=["n"], progress=lambda path, n, of: told.append((path.name, n, of)))
    np.testing.assert_array_equal(fits.source_id, table.source_id)
    np.testing.assert_allclose(fits.fit.labels[:, 0], fitter(table).fit.labels[:, 0], rtol=1e-4)
    np.testing.assert_array_equal(fits.columns["n"], [*range(8), *(np.arange(12) + 0.5)])
    assert told == [("a.parquet", 0, 8), ("a.parquet", 8, 8), ("b.parquet", 0, 12), ("b.parquet", 12, 12)]
    write(tmp_path / "s.h5", xpjax.spectra(table, WAVELENGTH, truncate=True))
    with pytest.raises(ValueError, match=r"s\.h5 holds sampled spectra, which are taken as they are"):
        fit_label_files(tmp_path / "s.h5", fitter)
    sampled = fit_label_files(tmp_path / "s.h5", fitter, accept_sampled=True)
    assert sampled.meta["correction"] == "none"
    with pytest.raises(ValueError, match=r"s\.h5 has no columns n; it has"):
        fit_label_files(tmp_path / "s.h5", fitter, keep=["n"], accept_sampled=True)
