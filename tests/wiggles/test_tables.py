"""Table corrections: made tables in the published layout, against a plain loop."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import stars
from xpjax.core.status import Status
from xpjax.wiggles.tables import FactorTable, TableCorrection, archive_grid, correct_with_tables, read_table_correction

RANGES = {"C2": (-4.0, 4.0), "C3": (-4.0, 4.0), "G": (2.7, 17.1)}


def curve(x: np.ndarray, shift: float) -> np.ndarray:
    return 1 + 0.03 * np.sin(0.7 * x[:, None] + shift + archive_grid() / 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tables")

    def save(name: str, array: np.ndarray) -> None:
        np.savetxt(home / name, array, delimiter=",", fmt="%.9g")

    for k, (name, (low, high)) in enumerate(RANGES.items()):
        node = np.arange(low, high, 0.01)
        save(f"untruc_inter{name}_CM.csv", node)
        save(f"untruc_interyy{name}_CM.csv", curve(node, k))
    faint = np.arange(10.0, 17.41, 0.01)
    save("interGext_CM.csv", faint)
    save("untruc_interyyGext_CM.csv", curve(faint, 9.0))
    save("inter_phot.csv", np.arange(10.0, 17.66, 0.01))
    save("inter_BP.csv", 1 + 0.001 * (np.arange(10.0, 17.66, 0.01) - 10))
    save("inter_RP.csv", 1 - 0.001 * (np.arange(10.0, 17.66, 0.01) - 10))
    return home


def test_factors_and_slopes_against_a_loop(folder: Path) -> None:
    model = read_table_correction(folder)
    spectra = xpjax.spectra(stars()[:50], float64=True, errors=False)
    g = stars()[:50].columns["phot_g_mean_mag"].astype(float)
    found = correct_with_tables(spectra, model, g, float64=True)
    wavelength = archive_grid() * 10
    for k in range(50):
        f = spectra.flux[k] / spectra.flux[k][62:78].mean()
        c2 = (f[27:49].mean() - f[49:71].mean()) / ((wavelength[27:49].mean() - wavelength[49:71].mean()) / 1000)
        c3 = (f[71:102].mean() - f[102:133].mean()) / ((wavelength[71:102].mean() - wavelength[102:133].mean()) / 1000)
        assert found.c2[k] == pytest.approx(c2, rel=1e-9)
        assert found.c3[k] == pytest.approx(c3, rel=1e-9)
        if not (-4 < c2 < 3.99 and -4 < c3 < 3.99):
            assert found.spectra.status[k] & Status.NOT_CORRECTED
            np.testing.assert_allclose(found.spectra.flux[k], spectra.flux[k], rtol=1e-12)
            continue
        factor = curve(np.array([c2]), 0)[0] * curve(np.array([c3]), 1)[0]
        if g[k] < 9.99:
            factor *= curve(g[k : k + 1], 2)[0]
        elif g[k] >= 10:
            faint = min(g[k], 17.4)
            factor *= curve(np.array([faint]), 9.0)[0] * curve(np.array([min(faint, 17.09)]), 2)[0, 62:78].mean()
            factor *= np.where(np.arange(343) < 105, 1 + 0.001 * (faint - 10), 1 - 0.001 * (faint - 10))
        np.testing.assert_allclose(found.spectra.flux[k] / spectra.flux[k], factor, rtol=1e-5)


def test_flags() -> None:
    node, ones = np.array([-50.0, 50.0]), np.full((2, 343), 1.1)
    narrow = FactorTable(np.array([90.0, 91.0]), ones)
    wide, g = FactorTable(node, ones), FactorTable(np.array([3.0, 17.0]), ones)
    valid = np.array([[-0.5, 2.0], [3.0, 17.5], [0.0, 0.8]])
    spectra = xpjax.spectra(stars()[:5], errors=False)
    magnitude = np.array([15.0, np.nan, 17.6, 15.0, 15.0])
    found = correct_with_tables(
        spectra, TableCorrection(wide, wide, g, valid), magnitude, bp_rp=[1, 1, 1, 2.5, 1], ebv=[0.1, 0, 0, 0, 0.9]
    ).spectra
    missing, outside, not_corrected = Status.FEATURE_MISSING, Status.OUTSIDE_TRAINING, Status.NOT_CORRECTED
    np.testing.assert_array_equal(found.status, [0, missing | not_corrected, outside, outside, outside])
    np.testing.assert_allclose(found.flux[[0, 2, 3, 4]], spectra.flux[[0, 2, 3, 4]] * 1.331, rtol=1e-5)
    np.testing.assert_allclose(found.flux[1], spectra.flux[1], rtol=1e-6)
    beyond = correct_with_tables(spectra, TableCorrection(narrow, wide, g, valid), 15.0).spectra
    np.testing.assert_array_equal(beyond.status, int(outside | not_corrected))


@pytest.mark.slow
def test_errors_follow_the_flux_and_weigh_the_means() -> None:
    node, ones = np.array([-50.0, 50.0]), np.full((2, 343), 1.1)
    table = FactorTable(node, ones)
    model = TableCorrection(table, table, table, np.array([[-9.0, 9.0]] * 3))
    spectra = xpjax.spectra(stars(40, correlations=True)[:10], float64=True)
    found = correct_with_tables(spectra, model, 15.0, use_errors=True, float64=True)
    np.testing.assert_allclose(found.spectra.flux_error, spectra.flux_error * 1.331, rtol=1e-9)
    flux, error = spectra.flux[3], spectra.flux_error[3]
    norm, norm_error = flux[62:78].mean(), np.sqrt((error[62:78] ** 2).sum()) / 16
    relative = np.sqrt((error / flux) ** 2 + (norm_error / norm) ** 2)
    means = [
        np.polyfit(np.ones(s.stop - s.start), flux[s] / norm, 0, w=relative[s] ** -2)[0]
        for s in (slice(27, 49), slice(49, 71))
    ]
    assert found.c2[3] == pytest.approx((means[0] - means[1]) / -0.44, rel=1e-6)


def test_wrong_input(folder: Path, tmp_path: Path) -> None:
    model = read_table_correction(folder, absolute=False)
    with pytest.raises(ValueError, match="archive's grid"):
        correct_with_tables(xpjax.spectra(stars()[:2], np.arange(400.0, 500.0), errors=False), model, 15.0)
    spectra = xpjax.spectra(stars()[:2], errors=False)
    with pytest.raises(ValueError, match="truncate=True"):
        correct_with_tables(spectra, dataclasses.replace(model, truncate=True), 15.0)
    once = correct_with_tables(spectra, model, 15.0).spectra
    for corrected in (once, xpjax.spectra(stars()[:2], errors=False, correction="standard")):
        with pytest.raises(ValueError, match="already corrected"):
            correct_with_tables(corrected, model, 15.0)
    with pytest.raises(ValueError, match=r"G has shape \(3,\)"):
        correct_with_tables(spectra, model, np.zeros(3))
    with pytest.raises(ValueError, match=r"untruc_interC2_CM\.csv"):
        read_table_correction(tmp_path)
    with pytest.raises(ValueError, match="nodes must be two or more and ascend"):
        FactorTable(np.array([1.0, 0.0]), np.ones((2, 343)))
