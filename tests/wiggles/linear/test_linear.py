"""Training of the linear correction, on mock stars whose instrument is wrong in a known way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import ndtr

import xpjax
from tests.marks import slow_after
from xpjax.wiggles.linear.domain import carbon, make_domain, quasar
from xpjax.wiggles.linear.evidence import Evidence, band_errors, kind_of, learning_curve, robust, smoothing
from xpjax.wiggles.linear.fit import (
    LinearSettings,
    Population,
    Training,
    behind_dust,
    dimming,
    judged,
    level,
    multiplied,
    photon_noise,
    rms,
    scaled_reference,
)
from xpjax.wiggles.linear.pairs import Pairs, on_grid, read_pairs
from xpjax.wiggles.linear.train import Trained, train_linear
from xpjax.xp import simulate
from xpjax.xp.correction import load_correction, read_linear, write_correction

N = 32
GRID = xpjax.load_instrument().wavelength


def wrong(model: xpjax.Instrument) -> np.ndarray:
    """The error of an instrument (k, m): a response with waves, and a line spread that is too broad."""
    design = model.default_design
    sharp = np.exp(-0.5 * ((GRID[:, None] - GRID) / 5.0) ** 2)
    sharp /= sharp.sum(axis=1, keepdims=True)
    waves = 0.03 * np.sin(GRID / 25.0) * np.clip((800 - GRID) / 400, 0, 1)
    return np.asarray(design * waves + 0.3 * (design - design @ sharp.T))


def stars(n: int, seed: int) -> np.ndarray:
    """Coefficients of bright mock stars."""
    table = simulate.simulate_sources(60 * n, seed, correlations=False, dtype=np.float64)
    g, color = (np.asarray(table.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    return np.asarray(table.coefficients.value, float)[(g < 13) & (color < 1.6)][:n]


@pytest.fixture(scope="module")
def population() -> Population:
    table = simulate.simulate_sources(4000, 9, correlations=False, dtype=np.float64)
    g = np.asarray(table.columns["phot_g_mean_mag"], float)
    return Population.of(np.asarray(table.coefficients.value, float)[g < 15], xpjax.load_instrument())


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    model, value = xpjax.load_instrument(), stars(N, 3)
    assert len(value) == N
    true = value @ (model.default_design + wrong(model))
    names = np.array([f"mock {k}" for k in range(N)])
    return Pairs(names, np.array(["A0V", "G2V"] * (N // 2)), value, 3e7 * true, model)


@pytest.fixture(scope="module")
def training(pairs: Pairs, population: Population) -> Training:
    return Training(pairs, population)


@pytest.fixture(scope="module")
def trained(pairs: Pairs, population: Population) -> Trained:
    return train_linear(pairs, population, name="mock", sizes=(10, 20))


def test_left_out_in_closed_form_equals_a_fit_without_the_star(training: Training, pairs: Pairs) -> None:
    found = training.left_out()
    keep = np.arange(N) != 5
    expected = pairs.coefficients[5] @ (pairs.instrument.default_design + training.fit(keep))
    np.testing.assert_allclose(found[5], expected, rtol=1e-3, atol=2e-4 * expected.mean())
    with_it = pairs.coefficients[5] @ (pairs.instrument.default_design + training.fit())
    assert np.abs(with_it / expected - 1).max() > 2 * np.abs(found[5] / expected - 1).max()


def test_a_known_error_of_the_instrument_is_found(trained: Trained) -> None:
    evidence = trained.evidence
    before, after = evidence.spectra()
    assert np.median(after) < np.median(before) / 3
    for system in ("JPLUS", "PanSTARRS1"):
        raw, left = evidence.magnitudes(system)
        assert np.all(robust(left).mean() < robust(raw).mean() / 3)


def test_references_of_other_stars_teach_nothing(pairs: Pairs, population: Population) -> None:
    others = dataclasses.replace(pairs, reference=np.roll(pairs.reference, 7, axis=0))
    evidence = Evidence.of(pairs, Training(others, population).left_out(), np.zeros(N))
    before, after = evidence.spectra()
    assert np.median(after) > 2 * np.median(before)


def test_stars_that_took_no_part_are_corrected(trained: Trained) -> None:
    model, value = xpjax.load_instrument(), stars(12, 77)
    true = value @ (model.default_design + wrong(model))
    options = {"errors": False, "float64": True}
    flux = xpjax.spectra(value, correction=trained.correction, resolution="full", **options).flux
    after, before = rms(flux, true, model), rms(value @ model.default_design, true, model)
    assert np.median(after) < np.median(before) / 1.4
    assert np.mean(after < before) > 0.8


def test_where_nothing_is_wrong_nothing_changes(pairs: Pairs, population: Population) -> None:
    right = dataclasses.replace(pairs, reference=pairs.coefficients @ pairs.instrument.default_design)
    # Photon noise is answered less than fully even then, a change that is far below what is wrong elsewhere.
    made = Training(right, population, LinearSettings(photons=0.0)).fit()
    wrong_one = Training(pairs, population, LinearSettings(photons=0.0)).fit()
    change, other = (pairs.coefficients @ c for c in (made, wrong_one))
    assert np.abs(change).max() < 0.01 * np.abs(other).max()


def test_dust_is_a_smooth_multiplier(pairs: Pairs, population: Population) -> None:
    model = pairs.instrument
    dimmed = behind_dust(pairs.coefficients[:6], 0.5, population, model) @ model.default_design
    expected = (pairs.coefficients[:6] @ model.default_design) * dimming(GRID, 0.5)
    used = judged(model)
    np.testing.assert_allclose(dimmed[:, used], expected[:, used], rtol=0.01)
    assert np.abs(dimmed / (expected / dimming(GRID, 0.1)) - 1)[:, used].max() > 0.1
    # 3.1 E(B-V) at 550 nm, about.
    assert dimming(np.array([549.0]), 1.0)[0] == pytest.approx(10 ** (-0.4 * 3.1), rel=0.01)


def test_photon_noise_keeps_noise_down(pairs: Pairs, population: Population) -> None:
    noise = photon_noise(pairs.instrument, (15.8, 16.2))
    spread = {}
    for photons in (0.0, 30.0):
        made = Training(pairs, population, LinearSettings(photons=photons)).fit() + pairs.instrument.default_design
        spread[photons] = np.sqrt(np.einsum("im,ij,jm->m", made, noise, made))
    assert np.median(spread[30.0] / spread[0.0]) < 0.9


def test_domain_flags_what_is_unusual(pairs: Pairs, population: Population) -> None:
    model, domain = pairs.instrument, make_domain(pairs, population)

    def beyond(value: np.ndarray) -> float:
        return float(np.mean(np.asarray(domain.distance(value, model.release)) > float(domain.limit)))

    assert beyond(pairs.coefficients) == 0
    assert beyond(multiplied(pairs.coefficients[:8], carbon, population, model)) == 1
    assert beyond(multiplied(pairs.coefficients[:8], quasar(1.2), population, model)) > 0.7
    assert beyond(behind_dust(pairs.coefficients, 3.0, population, model)) > 0.9
    mocks = simulate.simulate_sources(8000, 4, correlations=False, dtype=np.float64)
    g, color = (np.asarray(mocks.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    value = np.asarray(mocks.coefficients.value, float)
    assert beyond(value[(color > 2.6) & (g < 16)]) > 0.9
    # Noise is no distance.
    assert beyond(value[(color < 1.6) & (g > 17)]) < 0.1


def test_stated_errors_fit_what_is_left(trained: Trained) -> None:
    pulls = np.concatenate([trained.evidence.pulls(trained.correction, s) for s in ("JPLUS", "SDSS", "DECam")], axis=1)
    assert 0.4 < robust(pulls.ravel()) < 1.3
    # Of the uncorrected magnitudes the same errors say nothing.
    before, _ = trained.evidence.magnitudes("JPLUS")
    errors = band_errors(trained.correction, "JPLUS", ("J0410", "J0430"), trained.evidence.pairs.instrument)
    assert np.all(robust(before[:, 2:4]) > 2 * errors)


def test_files_round_trip_to_the_bit(trained: Trained, tmp_path: Path) -> None:
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    write_correction(a, trained.correction)
    again = read_linear(a)
    write_correction(b, again)
    assert a.read_bytes() == b.read_bytes()
    np.testing.assert_array_equal(again.change, trained.correction.change)
    assert again.meta["n_pair"] == N
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_correction(a, again)
    a.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no file of a linear correction"):
        read_linear(a)


def test_learning_curve_falls(training: Training) -> None:
    curve = learning_curve(training, (8, 24), n_judged=40)
    assert curve[24] < curve[8]


def test_evidence_says_all_there_is(trained: Trained) -> None:
    text = "\n".join(trained.evidence.table(trained.correction))
    for word in ("400..990 nm", "JPLUS", "pull", "F, G", "by G"):
        assert word in text
    assert trained.curve.keys() == {10, 20}
    assert [kind_of(t) for t in ("sdB3", "DA1.2", "A0V", "G2V", "M4", "")] == [
        "hot subdwarfs, O", "white dwarfs", "A", "F, G", "M and later", "other"
    ]  # fmt: skip


def test_gray_levels_are_taken_from_xp(pairs: Pairs) -> None:
    reference = scaled_reference(pairs)
    used = judged(pairs.instrument)
    np.testing.assert_allclose(reference[:, used].mean(axis=1), level(pairs.coefficients, pairs.instrument)[:, 0])


def test_too_few_pairs_are_refused(pairs: Pairs, population: Population) -> None:
    with pytest.raises(ValueError, match="10 or more"):
        train_linear(pairs[:5], population)


# --- files of pairs ---------------------------------------------------------------------------------------------------


def table(pairs: Pairs, samples: bool, **changed: list[object]) -> pa.Table:
    n = len(pairs)
    half = pairs.instrument.release.n_basis[0]
    columns: dict[str, object] = {"name": list(pairs.name), "type": list(pairs.kind)}
    if samples:
        columns["wavelength"] = [GRID] * n
        columns["flux"] = list(pairs.coefficients @ pairs.instrument.default_design)
    else:
        columns["source_id"] = np.arange(1, n + 1)
        columns["bp_coefficients"] = list(pairs.coefficients[:, :half])
        columns["rp_coefficients"] = list(pairs.coefficients[:, half:])
    columns |= {"reference_wavelength": [GRID] * n, "reference_flux": list(pairs.reference), **changed}
    return pa.table({key: pa.array(value) for key, value in columns.items()})


@pytest.mark.parametrize("samples", slow_after(1, [False, True]))
def test_pairs_from_coefficients_and_from_samples(pairs: Pairs, samples: bool, tmp_path: Path) -> None:
    pq.write_table(table(pairs, samples), tmp_path / "pairs.parquet")
    found = read_pairs(tmp_path / "pairs.parquet")
    model = pairs.instrument
    flux = pairs.coefficients @ model.default_design
    np.testing.assert_allclose(found.coefficients @ model.default_design, flux, rtol=1e-6, atol=1e-6 * flux.mean())
    np.testing.assert_allclose(found.reference, pairs.reference)
    assert list(found.name[:2]) == ["mock 0", "mock 1"]
    assert found.kind[1] == "G2V"


def test_pairs_that_do_not_fit_are_named(pairs: Pairs, tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pq.write_table(table(pairs, True).drop_columns(["reference_flux"]), path)
    with pytest.raises(ValueError, match="reference_flux or calspec_spectrum"):
        read_pairs(path)
    short = [GRID[:5]] + [GRID] * (N - 1)
    pq.write_table(table(pairs, True, reference_wavelength=short), path)
    with pytest.raises(ValueError, match="mock 0: wavelengths must ascend"):
        read_pairs(path)


def test_pairs_in_other_units_and_of_corrected_spectra(pairs: Pairs, tmp_path: Path) -> None:
    plain = table(pairs, False)
    pq.write_table(plain, tmp_path / "nm.parquet")
    other = table(pairs, False, reference_wavelength=[10 * GRID] * N)
    units = {"reference_wavelength": {"unit": "Angstrom"}, "reference_flux": {"unit": "erg / (s cm2 Angstrom)"}}
    fields = [f.with_metadata(units.get(f.name, {})) for f in other.schema]
    pq.write_table(other.cast(pa.schema(fields)), tmp_path / "cgs.parquet")
    a, b = (read_pairs(tmp_path / name) for name in ("nm.parquet", "cgs.parquet"))
    np.testing.assert_allclose(b.reference, 0.01 * a.reference)
    for key, value in (("correction", "standard"), ("corrected", True)):
        notes = {b"xpjax": json.dumps({"meta": {key: value}}).encode()}
        pq.write_table(plain.replace_schema_metadata(notes), tmp_path / "twice.parquet")
        with pytest.raises(ValueError, match="the XP spectra are corrected"):
            read_pairs(tmp_path / "twice.parquet")


def test_fine_references_are_averaged_and_coarse_ones_interpolated() -> None:
    fine = np.arange(335.0, 1021.5, 0.1)
    line = 1 - 0.8 * np.exp(-0.5 * ((fine - 500.6) / 0.4) ** 2)
    found = on_grid(fine, line, GRID)
    at = int(np.flatnonzero(GRID == 500)[0])
    inside = ndtr((501 - 500.6) / 0.4) - ndtr((499 - 500.6) / 0.4)
    assert found[at] == pytest.approx(1 - 0.8 * 0.4 * np.sqrt(2 * np.pi) * inside / 2, rel=1e-3)
    # A sample at the point itself would miss most of the line.
    assert abs(np.interp(500.0, fine, line) - found[at]) > 0.05
    coarse = np.arange(400.0, 900.1, 10.0)
    found = on_grid(coarse, 2 * coarse, GRID)
    assert np.isnan(found[GRID < 400]).all()
    np.testing.assert_allclose(found[(GRID >= 400) & (GRID <= 900)], 2 * GRID[(GRID >= 400) & (GRID <= 900)])


def test_references_with_gaps_still_teach(pairs: Pairs, population: Population) -> None:
    reference = pairs.reference.copy()
    reference[::2, GRID > 900] = np.nan
    gaps = dataclasses.replace(pairs, reference=reference)
    training = Training(gaps, population)
    after = training.left_out()
    assert np.isfinite(after).all()
    evidence = Evidence.of(gaps, after, np.zeros(N))
    before, left = evidence.spectra()
    assert np.median(left) < np.median(before) / 3


# --- the shipped one --------------------------------------------------------------------------------------------------


def test_the_standard_correction_is_small_and_says_where_it_is_from() -> None:
    standard = load_correction()
    assert standard is not None
    path = Path(xpjax.__file__).parent / "data" / "correction_dr3.h5"
    assert path.stat().st_size < 1e6
    assert standard.meta["n_pair"] == 66
    assert "CALSPEC" in standard.meta["sources"]["references"]
    assert len(standard.meta["files (sha256)"]) == 2


@pytest.mark.slow
def test_real_pairs_left_out(shared: Callable[[str], Path]) -> None:
    """The figures that the guide states, on real stars."""
    data = read_pairs(shared("calspec/xp_calspec_pairs.parquet"))
    standard = load_correction()
    assert standard is not None
    made = train_linear(data, Population.known(standard))
    before, after = made.evidence.spectra()
    assert np.median(after) < 0.0060 < 0.03 < np.median(before)
    assert np.median(made.evidence.spectra(336, 400)[1]) < 0.040
    seen = made.evidence[made.evidence.bp_rp < 2]
    nine = ("J0410", "J0430", "gJPLUS", "J0515", "rJPLUS", "J0660", "iJPLUS", "J0861", "zJPLUS")
    assert np.sqrt((robust(seen.magnitudes("JPLUS", nine)[1]) ** 2).mean()) < 0.0048
    # The shipped file is what these pairs teach.
    shipped = data.coefficients @ (data.instrument.default_design + standard.change)
    again = data.coefficients @ (data.instrument.default_design + made.correction.change)
    smooth = smoothing(data.instrument)
    used = judged(data.instrument)
    np.testing.assert_allclose((shipped @ smooth)[:, used], (again @ smooth)[:, used], rtol=3e-3)
