"""Simulated sources: reproducible, of the right sizes, with the noise that they report, and like real ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import xpjax
from xpjax.core.release import DR3, Release
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable


@pytest.fixture(scope="module")
def table() -> SourceTable:
    return simulate.simulate_sources(simulate.BLOCK + 1000, seed=3)


def zero_units(*names: str) -> np.ndarray:
    """Projections on bands in units of magnitude zero, float64."""
    system = xpjax.load_system(*names)
    return np.asarray(system.projection) * 10 ** (-0.4 * np.asarray(system.scaled_zero_point))


def magnitudes(value: np.ndarray, projection: np.ndarray) -> np.ndarray:
    flux = np.asarray(value, float) @ projection
    return -2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def matrices(packed: np.ndarray, n: int) -> np.ndarray:
    out = np.zeros((len(packed), n, n)) + np.eye(n)
    rows, columns = np.tril_indices(n, -1)
    out[:, rows, columns] = out[:, columns, rows] = packed
    return out


def same(a: SourceTable, b: SourceTable) -> None:
    np.testing.assert_array_equal(a.source_id, b.source_id)
    for name in ("value", "error", "correlation", "n_relevant"):
        np.testing.assert_array_equal(getattr(a.coefficients, name), getattr(b.coefficients, name))
    for name in a.columns:
        np.testing.assert_array_equal(a.columns[name], b.columns[name])


@pytest.mark.parametrize("n", [1, 777, simulate.BLOCK, simulate.BLOCK + 1])
def test_fewer_sources_are_the_first_of_more(table: SourceTable, n: int) -> None:
    same(simulate.simulate_sources(n, seed=3), table[:n])


def test_seeds_differ_and_correlations_change_nothing_else(table: SourceTable) -> None:
    plain = simulate.simulate_sources(500, seed=3, correlations=False)
    assert plain.coefficients.correlation is None
    np.testing.assert_array_equal(plain.coefficients.value, table.coefficients.value[:500])
    other = simulate.simulate_sources(500, seed=4, correlations=False)
    assert not np.any(np.isin(other.coefficients.value[:, 0], plain.coefficients.value[:, 0]))


def test_sizes_and_types(table: SourceTable) -> None:
    n, c = simulate.BLOCK + 1000, table.coefficients
    assert len(table) == n
    assert (c.value.shape, c.error.shape) == ((n, DR3.n_basis_total),) * 2
    assert c.correlation.shape == (n, DR3.n_pair_total)
    assert c.n_relevant.shape == (n, 2)
    assert {a.dtype for a in (c.value, c.error, c.correlation)} == {np.dtype(np.float32)}
    assert all(a.ctypes.data % 64 == 0 for a in (c.value, c.error, c.correlation))
    assert np.all(table.status == 0)
    assert list(table.columns) == list(simulate.COLUMNS)
    assert all(column.shape == (n,) for column in table.columns.values())
    double = simulate.simulate_sources(3, seed=3, dtype=np.float64)
    assert double.coefficients.correlation.dtype == np.float64
    np.testing.assert_array_equal(double.coefficients.value, c.value[:3])
    empty = simulate.simulate_sources(0)
    assert len(empty) == 0
    assert empty.columns["ra"].shape == (0,)


def test_ranges(table: SourceTable) -> None:
    c = table.coefficients
    many = simulate.simulate_sources(60_000, correlations=False).columns
    g, color = many["phot_g_mean_mag"], many["bp_rp"]
    assert g.min() > 3.99
    assert g.max() < 17.66
    assert color.min() > -0.62
    assert color.max() < 4.02
    # The whole range occurs.
    assert np.all(np.histogram(g, np.arange(4.65, 17.66, 1.0))[0] > 20)
    assert np.all(np.histogram(color, np.arange(-0.6, 4.01, 0.2))[0] > 10)
    assert np.all(np.isfinite(c.value))
    assert np.all(c.error > 0)
    assert c.n_relevant.min() >= 1
    assert np.all(c.n_relevant.max(axis=0) <= DR3.n_basis)
    bright, faint = g[:5000] < 13, g[:5000] > 17
    many_relevant = simulate.simulate_sources(5000, correlations=False).coefficients.n_relevant
    assert np.all(np.median(many_relevant[bright], axis=0) > np.median(many_relevant[faint], axis=0))


def test_ids_are_unique_and_agree_with_positions(table: SourceTable) -> None:
    healpy = pytest.importorskip("astropy_healpix.healpy")
    ids, ra, dec = table.source_id, table.columns["ra"], table.columns["dec"]
    assert len(np.unique(ids)) == len(ids)
    assert np.all((ids & 127) == 0)
    np.testing.assert_array_equal(healpy.ang2pix(2**12, ra, dec, nest=True, lonlat=True), ids >> 35)
    sine = np.sin(np.radians(dec))
    assert abs(np.mean(sine)) < 0.05
    height = np.sin(np.radians(27.12825)) * sine + np.cos(np.radians(27.12825)) * np.sqrt(1 - sine**2) * np.cos(
        np.radians(ra - 192.85948)
    )
    # Uniform sources would give 0.5, the density that falls linearly with |sin b| by a third 5/12.
    assert abs(np.mean(np.abs(height)) - 5 / 12) < 0.02


def test_correlations_are_correlations(table: SourceTable) -> None:
    some = table.coefficients.correlation[::40].astype(float)
    for rows, n in zip(DR3.pair_slices, DR3.n_basis, strict=True):
        assert np.abs(some[:, rows]).max() < 1
        spectrum = np.linalg.eigvalsh(matrices(some[:, rows], n))
        assert spectrum.min() > 1e-3
        assert spectrum.max() / spectrum.min() < 2000


def test_noise_has_the_covariance_that_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = simulate.simulate_sources(simulate.BLOCK, seed=5)
    monkeypatch.setattr(
        simulate, "_noise", lambda model, rng, which: np.zeros((len(which), DR3.n_basis_total), np.float32)
    )
    true = simulate.simulate_sources(simulate.BLOCK, seed=5, correlations=False)
    c = noisy.coefficients
    pull = (c.value.astype(float) - true.coefficients.value) / c.error
    # Subtracting float32 numbers of the brightest sources leaves rounding, small beside their errors.
    assert abs(pull.std() - 1) < 0.01
    chosen = np.arange(0, simulate.BLOCK, 4)
    for rows, pairs, n in zip(DR3.slices, DR3.pair_slices, DR3.n_basis, strict=True):
        inverse = np.linalg.inv(matrices(c.correlation[chosen, pairs].astype(float), n))
        chi2 = np.einsum("ni,nij,nj->n", pull[chosen, rows], inverse, pull[chosen, rows])
        # 1024 sources of 55 degrees of freedom: the mean of chi2 is known to 0.6 %.
        assert abs(chi2.mean() / n - 1) < 0.02
        assert abs(chi2.std() / np.sqrt(2 * n) - 1) < 0.1
        # The wrong correlations (bases in reverse) are noticed: the test can fail.
        wrong = np.einsum("ni,nij,nj->n", pull[chosen, rows][:, ::-1], inverse, pull[chosen, rows][:, ::-1])
        assert wrong.mean() / n > 1.05


def test_columns_are_the_photometry_without_noise(table: SourceTable) -> None:
    got = magnitudes(table.coefficients.value, zero_units("Gaia_DR3_Vega"))
    want = np.stack([table.columns[name] for name in simulate.MAGNITUDES], axis=1)
    bright = table.columns["phot_g_mean_mag"] < 16
    assert np.abs(got - want)[bright][:, 0].max() < 0.05
    assert np.all(np.abs(np.median(got - want, axis=0)) < 1e-3)
    np.testing.assert_allclose(table.columns["bp_rp"], want[:, 1] - want[:, 2], atol=1e-5)


def test_relevant_bases_rule() -> None:
    release = Release("small", (20, 30))
    rng = np.random.default_rng(2)
    value = rng.normal(size=(40, release.n_basis_total))
    value[:, 5] += 30
    value[:, 20] += 100
    error = np.ones_like(value)
    found = simulate.relevant_bases(value, error, release)
    for row, numbers in zip(value, found, strict=True):
        for rows, number in zip(release.slices, numbers, strict=True):
            x = row[rows]
            above = [k for k in range(len(x) - 2) if np.std(x[k:], ddof=1) > 1 + 2 / np.sqrt(2 * (len(x) - k - 1))]
            assert number == max(above) + 1
    assert np.all(found[:, 0] >= 6)


def test_another_release(table: SourceTable) -> None:
    release = Release("DR4-like", (51, 55))
    other = simulate.simulate_sources(200, seed=3, release=release)
    c = other.coefficients
    assert c.value.shape == (200, release.n_basis_total)
    assert c.correlation.shape == (200, release.n_pair_total)
    spectrum = np.linalg.eigvalsh(matrices(c.correlation[:, release.pair_slices[0]].astype(float), 51))
    assert spectrum.min() > 1e-3
    with pytest.raises(ValueError, match="at most"):
        simulate.simulate_sources(2, release=Release("too many", (56, 55)))
    with pytest.raises(ValueError, match="negative"):
        simulate.simulate_sources(-1)


def test_sources_are_written_and_read_back(table: SourceTable, tmp_path: Path) -> None:
    part = table[:20]
    xpjax.write(tmp_path / "part.h5", part)
    same(part, xpjax.read(tmp_path / "part.h5"))


def test_extrapolated_correlations_are_labelled(table: SourceTable) -> None:
    label = table.columns[simulate.EXTRAPOLATED]
    g, color = table.columns["phot_g_mean_mag"], table.columns["bp_rp"]
    assert 0.1 < label.mean() < 0.6
    assert np.all(label[(g < 6) | (g > 17.3) | (color < -0.35) | (color > 3.8)])
    assert not np.any(label[(np.abs(g - 11) < 2) & (np.abs(color - 1) < 0.5)])


def test_colors_are_those_of_real_sources(shared: Callable[[str], Path]) -> None:
    from astropy.table import Table

    real = []
    for name in ("xp/xp_random_1200.fits", "xp/xp_blue_1800.fits"):
        t = Table.read(shared(name))
        real.append(np.concatenate([np.asarray(t["bp_coefficients"]), np.asarray(t["rp_coefficients"])], axis=1))
    projection = zero_units("SDSS", "Gaia_DR3_Vega:G")
    loci = []
    mock = simulate.simulate_sources(30_000, seed=1, correlations=False)
    edges = np.array([-0.2, 0.2, 0.6, 0.75, 0.9, 1.1, 1.4, 1.8, 2.2, 2.5])
    for value in (mock.coefficients.value, np.concatenate(real)):
        m = magnitudes(value, projection)
        m = m[m[:, -1] < 16.8]
        loci.append((m[:, 1] - m[:, 3], m[:, 1:4] - m[:, 2:5]))
    for low, high in pairwise(edges):
        (x, y), (x_real, y_real) = ((x[use], y[use]) for x, y in loci for use in [(x > low) & (x < high)])
        # What is left of one straight line, so that the places of the sources within the bin don't matter.
        slope, start = np.polyfit(x, y, 1)
        offset = np.median(y - x[:, None] * slope - start, axis=0)
        offset -= np.median(y_real - x_real[:, None] * slope - start, axis=0)
        assert np.abs(offset).max() < 0.02, (low, offset)


def test_relevant_bases_of_real_sources(shared: Callable[[str], Path]) -> None:
    from astropy.table import Table

    t = Table.read(shared("xp/xp_random_1200.fits"))
    value, error = (
        np.concatenate([np.asarray(t[f"{xp}_{kind}"], float) for xp in ("bp", "rp")], axis=1)
        for kind in ("coefficients", "coefficient_errors")
    )
    want = np.stack([t["bp_n_relevant_bases"], t["rp_n_relevant_bases"]], axis=1)
    np.testing.assert_array_equal(simulate.relevant_bases(value, error), want)
