"""`xpjax wiggles`, and the absolute scale on the command line."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import xpjax
from tests.cli.helpers import xp
from xpjax.synthetic.absolute import gaia_scale, scaled_photometry
from xpjax.xp import simulate
from xpjax.xp.correction import load_correction


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Fifteen mock stars, seen with a response that is wrong by waves of 3 %."""
    made = simulate.simulate_sources(1500, 3, correlations=False, dtype=np.float64)
    g, color = (np.asarray(made.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    value = np.asarray(made.coefficients.value, float)[(g < 13.5) & (color < 1.6)][:15]
    model = xpjax.load_instrument()
    x, half = model.wavelength, model.release.n_basis[0]
    true = (value @ model.default_design) * (1 + 0.03 * np.sin(x / 25.0))
    table = {
        "source_id": np.arange(1, len(value) + 1),
        "bp_coefficients": list(value[:, :half]),
        "rp_coefficients": list(value[:, half:]),
        "reference_wavelength": [x] * len(value),
        "reference_flux": list(true),
    }
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({key: pa.array(column) for key, column in table.items()}), path)
    return path


def test_train_linear_and_use_it(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "own.h5"
    done = xp("wiggles", "train-linear", pairs, "-o", output, "--name", "mine", "--figure", tmp_path / "own.png")
    assert "15 pairs" in done.stdout
    assert "JPLUS" in done.stdout
    assert (tmp_path / "own.png").stat().st_size > 10_000
    correction = load_correction(output)
    assert correction.name == "mine"
    assert correction.meta["command"] == "xpjax wiggles train-linear"
    again = xp("wiggles", "train-linear", pairs, "-o", output)
    assert "--overwrite" in again.stderr
    # What it learned: waves of 3 % on the same stars.
    stars = xpjax.read(pairs)
    raw = xpjax.spectra(stars, errors=False, float64=True).flux
    found = xpjax.spectra(stars, errors=False, float64=True, correction=output, resolution="full").flux
    x = xpjax.load_instrument().wavelength
    seen = (x > 450) & (x < 900)
    left = np.median(np.abs(found / raw - 1 - 0.03 * np.sin(x / 25.0))[:, seen])
    assert left < 0.4 * np.median(np.abs(0.03 * np.sin(x / 25.0))[seen])


def test_settings_that_are_none_are_named(pairs: Path, tmp_path: Path) -> None:
    done = xp("wiggles", "train-linear", pairs, "-o", tmp_path / "own.h5", "--set", "rigde=0.1")
    assert "no setting rigde" in done.stderr
    assert "ridge" in done.stderr
    done = xp("wiggles", "train-linear", pairs, "-o", tmp_path / "own.txt")
    assert "HDF5" in done.stderr
    for arguments in (("own.h5", "--name", "none"), ("standard.h5",)):
        done = xp("wiggles", "train-linear", pairs, "-o", tmp_path / arguments[0], *arguments[1:])
        assert done.exit_code == 2
        assert "this name is taken" in done.stderr


def test_the_scale_is_tied_three_ways_alike(tmp_path: Path) -> None:
    xp("simulate", "-n", "40", "-o", tmp_path / "xp.parquet")
    (tmp_path / "terms.txt").write_text("G_mag G\n5 0.01\n20 0.03\n")
    tie = ("--tie", "G", "--magnitude-terms", tmp_path / "terms.txt")
    xp(
        "photometry",
        tmp_path / "xp.parquet",
        "--system",
        "SDSS",
        "--correction",
        "standard",
        *tie,
        "-o",
        tmp_path / "m.h5",
    )
    keep = ["phot_g_mean_mag"]
    table = xpjax.read(tmp_path / "xp.parquet", keep=keep, dtype=np.float32)
    factor = gaia_scale(table, terms=tmp_path / "terms.txt", correction="standard")
    expected = scaled_photometry(xpjax.photometry(table, "SDSS", correction="standard"), factor)
    with h5py.File(tmp_path / "m.h5") as file:
        np.testing.assert_array_equal(file["Sdss_mag_g"][()], expected.magnitude[:, 1])
    xp("spectra", tmp_path / "xp.parquet", *tie, "-o", tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5") as file:
        flux = scaled_photometry(xpjax.spectra(table), gaia_scale(table, terms=tmp_path / "terms.txt")).flux
        np.testing.assert_array_equal(file["flux"][()], flux)
    done = xp("spectra", tmp_path / "xp.parquet", *tie[2:], "-o", tmp_path / "t.h5")
    assert "--tie" in done.stderr
