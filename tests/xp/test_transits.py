"""Epoch spectra, made, stored and measured: rows, noise, and numbers that are those of mean spectra."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.cli.helpers import xp
from xpjax.core.errors import XpjaxError
from xpjax.core.status import Status
from xpjax.io import catalogue
from xpjax.xp import SourceTable
from xpjax.xp.transits import FIRST, LAST, MEAN_TRANSITS

N, TRANSITS = 12, 10


@pytest.fixture(scope="module")
def epochs() -> SourceTable:
    return xpjax.simulate_sources(N, seed=5, transits=TRANSITS)


@pytest.fixture(scope="module")
def as_mean(epochs: SourceTable) -> SourceTable:
    """The same coefficients as spectra of as many sources."""
    rest = {name: column for name, column in epochs.columns.items() if name not in epochs.transits}
    return dataclasses.replace(epochs, source_id=np.arange(1, len(epochs) + 1), columns=rest)


def test_made_transits(epochs: SourceTable) -> None:
    assert len(epochs) == N * TRANSITS
    np.testing.assert_array_equal(
        epochs.source_id.reshape(N, -1), np.tile(epochs.source_id[::TRANSITS], (TRANSITS, 1)).T
    )
    time = epochs.columns["time"].reshape(N, -1)
    assert (np.diff(time) > 0).all()
    assert FIRST <= time.min() < time.max() <= LAST
    assert len(np.unique(epochs.columns["transit_id"])) == len(epochs)
    fewer = xpjax.simulate_sources(3, seed=5, transits=TRANSITS)
    np.testing.assert_array_equal(fewer.coefficients.value, epochs.coefficients.value[: 3 * TRANSITS])
    np.testing.assert_array_equal(fewer.columns["time"], epochs.columns["time"][: 3 * TRANSITS])
    with pytest.raises(XpjaxError, match="must be positive, not 0"):
        xpjax.simulate_sources(2, transits=0)
    with pytest.raises(XpjaxError, match=r"variability gives magnitudes \(2,\), expected \(2, 3\)"):
        xpjax.simulate_sources(2, transits=3, variability=lambda time: time[:, 0])


def test_a_third_lacks_bp_or_rp_and_noise_is_what_is_stated() -> None:
    mean = xpjax.simulate_sources(60, seed=6)
    many = xpjax.simulate_sources(60, seed=6, transits=50)
    absent = (many.status & np.uint32(Status.BP_MISSING | Status.RP_MISSING)) > 0
    assert absent.mean() == pytest.approx(1 / 3, abs=0.03)
    assert not ((many.status & np.uint32(Status.BP_MISSING)) > 0)[np.isfinite(many.coefficients.value[:, 0])].any()
    pull = (many.coefficients.value - np.repeat(mean.coefficients.value, 50, axis=0)) / many.coefficients.error
    assert np.nanstd(pull) == pytest.approx(1, abs=0.01)
    assert np.nanmean(pull) == pytest.approx(0, abs=0.01)
    good = np.isfinite(pull).all(axis=1)
    found = np.mean(pull[good, 0] * pull[good, 1])
    expected = mean.coefficients.correlation[:, 0].mean()  # of the first two coefficients
    assert found == pytest.approx(expected, abs=0.06)
    ratio = many.coefficients.error[::50] / mean.coefficients.error
    np.testing.assert_allclose(ratio[np.isfinite(ratio)], MEAN_TRANSITS**0.5, rtol=1e-5)


def test_variability_of_bp_and_rp() -> None:
    def fading(time: np.ndarray) -> np.ndarray:
        return np.stack([np.full(time.shape, 1.0), np.full(time.shape, 0.5)], axis=-1)

    plain, faint = (xpjax.simulate_sources(3, seed=7, transits=8, variability=v) for v in (None, fading))
    mean = np.repeat(xpjax.simulate_sources(3, seed=7).coefficients.value, 8, axis=0)
    change = faint.coefficients.value - plain.coefficients.value
    for rows, factor in zip(plain.release.slices, 10 ** (-0.4 * np.array([1.0, 0.5])), strict=True):
        good = np.isfinite(change[:, rows.start])
        expected = (factor - 1) * mean[good, rows]
        np.testing.assert_allclose(change[good, rows], expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_store_and_catalogue_keep_transits(epochs: SourceTable, tmp_path: Path) -> None:
    flagged = dataclasses.replace(epochs, columns={**epochs.columns, "bp_flags": np.arange(len(epochs)) % 7})
    for suffix in (".csv", ".fits"):
        xpjax.write(tmp_path / f"epochs{suffix}", flagged)
        folder = tmp_path / suffix[1:]
        report = xpjax.ingest([tmp_path / f"epochs{suffix}"], folder, correlations="float32")
        assert report.failures == {}
        store = xpjax.open_store(folder)
        assert store.files[0].is_epoch
        assert store.files[0].units["time"] == "d"
        assert store.verify() == []
        for found in (store.read(), store.read(columns=[]), store.files[0].read()):
            for name in ("transit_id", "time"):
                np.testing.assert_array_equal(found.columns[name], epochs.columns[name])
            np.testing.assert_array_equal(found.coefficients.value, epochs.coefficients.value)
            np.testing.assert_array_equal(found.status, epochs.status)
        np.testing.assert_array_equal(store.read().columns["bp_flags"], flagged.columns["bp_flags"])
        wanted = epochs.source_id[[0, -1]]
        some = store.select(wanted, columns=["ra"])
        np.testing.assert_array_equal(
            some.source_id, np.sort(np.repeat(wanted, TRANSITS))[:: 1 if wanted[0] < wanted[1] else -1]
        )
        assert list(some.columns) == ["transit_id", "time", "ra"]
    xpjax.xp.write_store_file(tmp_path / "csv" / "mean.h5", xpjax.simulate_sources(3))
    with pytest.raises(XpjaxError, match=r"epochs has epoch spectra \(transit_id\), mean mean spectra; keep each"):
        xpjax.open_store(tmp_path / "csv")


def test_flags_that_are_missing_are_all_set(epochs: SourceTable, tmp_path: Path) -> None:
    xpjax.write(
        tmp_path / "epochs.csv", dataclasses.replace(epochs, columns={**epochs.columns, "bp_flags": np.arange(120.0)})
    )
    text = (tmp_path / "epochs.csv").read_text().splitlines()
    column = text[0].split(",").index("bp_flags") - len(text[0].split(","))
    cells = text[1].split(",")
    cells[column] = ""
    text[1] = ",".join(cells)
    (tmp_path / "epochs.csv").write_text("\n".join(text))
    xpjax.ingest([tmp_path / "epochs.csv"], tmp_path / "store")
    found = xpjax.open_store(tmp_path / "store").read().columns["bp_flags"]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found[:3], [-1, 1, 2])


@pytest.mark.slow
def test_numbers_are_those_of_mean_spectra_to_the_bit(
    epochs: SourceTable, as_mean: SourceTable, tmp_path: Path
) -> None:
    """In Python, from files, from a store to a catalogue, and by the command."""
    expected = xpjax.photometry(as_mean, "SDSS")
    xpjax.write(tmp_path / "epochs.parquet", epochs)
    xpjax.ingest([tmp_path / "epochs.parquet"], tmp_path / "store", correlations="float32")
    xpjax.write(tmp_path / "direct.h5", xpjax.photometry(epochs, "SDSS"))
    report = xpjax.run_catalogue(tmp_path / "store", tmp_path / "catalogue", "SDSS")
    assert report.rows == len(epochs)
    done = xp(
        "photometry", tmp_path / "epochs.parquet", "--system", "SDSS", "-o", tmp_path / "command.ecsv", "--keep", "time"
    )
    assert done.exit_code == 0, done.stderr
    assert f"{len(epochs)} epoch spectra read from 1 file" in done.stderr
    for path in (tmp_path / "direct.h5", tmp_path / "catalogue" / "epochs.parquet", tmp_path / "command.ecsv"):
        found = catalogue.read_catalogue(path)
        assert list(found.columns)[:3] == ["source_id", "transit_id", "time"]
        assert found.units["time"] == "d"
        np.testing.assert_array_equal(found.columns["source_id"], epochs.source_id)
        np.testing.assert_array_equal(found.columns["transit_id"], epochs.columns["transit_id"])
        np.testing.assert_array_equal(found.columns["time"], epochs.columns["time"])
        for name, column in expected.catalogue().columns.items():
            if name != "source_id":
                np.testing.assert_array_equal(found.columns[name].astype(column.dtype), column, err_msg=name)
    again = xpjax.synthetic.read_photometry(tmp_path / "direct.h5")
    np.testing.assert_array_equal(again.transits["transit_id"], epochs.columns["transit_id"])


@pytest.mark.slow
def test_spectra_keep_transits(epochs: SourceTable, as_mean: SourceTable, tmp_path: Path) -> None:
    grid = np.arange(400.0, 900.0, 25.0)
    found = xpjax.spectra(epochs, grid)
    np.testing.assert_array_equal(found.flux, xpjax.spectra(as_mean, grid).flux)
    xpjax.write(tmp_path / "spectra.parquet", found)
    again = xpjax.xp.read_spectra(tmp_path / "spectra.parquet")
    np.testing.assert_array_equal(again.columns["transit_id"], epochs.columns["transit_id"])
    assert again.passed.units["time"] == "d"


@pytest.mark.slow
def test_files_of_a_call_are_all_of_transits(epochs: SourceTable, tmp_path: Path) -> None:
    xpjax.write(tmp_path / "epochs.parquet", epochs[:4])
    xpjax.write(tmp_path / "mean.parquet", xpjax.simulate_sources(3))
    call = ("--system", "SDSS:g", "--no-errors", "-o", tmp_path / "out.csv")
    done = xp("photometry", tmp_path / "epochs.parquet", tmp_path / "mean.parquet", *call)
    assert done.exit_code == 2
    assert "mean and epoch spectra (transit_id) in one call" in done.stderr
    xpjax.write(tmp_path / "more.parquet", epochs[2:6])
    done = xp("photometry", tmp_path / "epochs.parquet", tmp_path / "more.parquet", *call)
    assert done.exit_code == 0, done.stderr
    twice = catalogue.read_catalogue(tmp_path / "out.csv").columns["xp_status"] & int(Status.DUPLICATE)
    np.testing.assert_array_equal(twice > 0, [0, 0, 0, 0, 1, 1, 0, 0])


def test_mock_epochs_by_the_command(tmp_path: Path) -> None:
    done = xp("simulate", "-n", 3, "--transits", 4, "-o", tmp_path / "epochs.parquet")
    assert done.exit_code == 0, done.stderr
    assert "12 mock epoch spectra written" in done.stderr
    found = xpjax.read(tmp_path / "epochs.parquet")
    np.testing.assert_array_equal(found.columns["time"], xpjax.simulate_sources(3, transits=4).columns["time"])
