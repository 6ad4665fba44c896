"""`xpjax wiggles correct` with a linear correction: from files of `xpjax spectra`, of the archive and of others."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from tests.cli.helpers import files, xp
from xpjax.core.records import Catalogue
from xpjax.core.status import Status
from xpjax.io.catalogue import read_catalogue, write
from xpjax.xp import read_spectra
from xpjax.xp.simulate import simulate_sources
from xpjax.xp.sources import SourceTable

GRID = np.arange(336.0, 1021.0, 2.0)


@pytest.fixture(scope="module")
def stars() -> SourceTable:
    made = simulate_sources(300, seed=2)
    return made[np.flatnonzero((made.columns["phot_g_mean_mag"] < 15) & (made.columns["bp_rp"] < 1.5))[:8]]


@pytest.fixture(scope="module")
def folder(stars: SourceTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("linear")
    write(home / "sources.parquet", stars.catalogue())
    for name, options in (
        ("spectra.h5", ()),
        ("internal.h5", ("--internal",)),
        ("done.h5", ("--correction", "standard")),
        ("smooth.h5", ("--resolution", "xp")),
    ):
        assert xp("spectra", home / "sources.parquet", *options, "-o", home / name).exit_code == 0
    return home


def expected(stars: SourceTable, resolution: str = "xp") -> np.ndarray:
    return xpjax.spectra(stars, correction="standard", resolution=resolution, float64=True).flux


def close(found: np.ndarray, stars: SourceTable, resolution: str = "xp") -> None:
    """To 1 % of the mean flux, single precision's share, where the correction is several; blueward it is more."""
    true = expected(stars, resolution)
    scale = true.mean(axis=1, keepdims=True)
    here = np.sqrt(np.mean(((found - true) / scale)[:, 32:] ** 2, axis=1))
    raw = xpjax.spectra(stars, errors=False, float64=True).flux
    assert here.max() < 0.004
    assert here.max() < 0.2 * np.sqrt(np.mean(((raw - true) / scale)[:, 32:] ** 2, axis=1)).max()


@pytest.mark.parametrize("resolution", ["xp", "full"])
def test_a_file_of_spectra(folder: Path, tmp_path: Path, stars: SourceTable, resolution: str) -> None:
    out = tmp_path / "out.h5"
    done = xp("wiggles", "correct", folder / "spectra.h5", "--resolution", resolution, "-o", out)
    assert done.exit_code == 0, done.stderr
    assert "8 spectra read from spectra.h5" in done.stderr
    before, after = read_catalogue(folder / "spectra.h5"), read_catalogue(out)
    assert [*after.columns] == ["source_id", "flux", "flux_error", "xp_correction_distance", "xp_status"]
    np.testing.assert_array_equal(after.columns["source_id"], before.columns["source_id"])
    np.testing.assert_array_equal(after.shared["wavelength"], before.shared["wavelength"])
    assert after.meta["correction"] == "standard"
    assert after.meta["resolution"] == resolution
    assert np.isfinite(after.columns["xp_correction_distance"]).all()
    close(after.columns["flux"], stars, resolution)
    twice = xp("wiggles", "correct", out, "-o", tmp_path / "twice.h5")
    assert twice.exit_code == 2
    assert "already corrected (correction standard)" in twice.stderr


def test_text_files_of_corrected_spectra_are_known_by_their_columns(folder: Path, tmp_path: Path) -> None:
    done = xp("wiggles", "correct", folder / "spectra.h5", "-o", tmp_path / "out.csv")
    assert done.exit_code == 0, done.stderr
    assert "out.csv holds no metadata" in done.stderr
    twice = xp("wiggles", "correct", tmp_path / "out.csv", "-o", tmp_path / "twice.h5")
    assert twice.exit_code == 2
    assert "already corrected" in twice.stderr


def flux_of(stars: SourceTable) -> np.ndarray:
    return xpjax.spectra(stars, errors=False, float64=True).flux


def test_plain_files_of_others(tmp_path: Path, stars: SourceTable) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from astropy.table import Table

    flux, ids = flux_of(stars), stars.source_id
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.update({"source_id": ids, "flux": flux, "wavelength": GRID, "name": np.arange(len(ids))})
    lists = {"source_id": ids, "flux": [*flux], "flux_error": [*(0.01 * flux)]}
    pq.write_table(pa.table({**lists, "wavelength": [GRID] * len(ids)}), tmp_path / "b.parquet")
    pq.write_table(pa.table(lists), tmp_path / "c.parquet")  # as the archive's: no wavelengths
    Table({"source_id": ids, "flux": flux, "wavelength": np.tile(GRID, (len(ids), 1))}).write(tmp_path / "d.fits")
    rows = [f"{i},{w:g},{f!r}\n" for i, row in zip(ids, flux.tolist()) for w, f in zip(GRID, row)]
    (tmp_path / "e.csv").write_text("source_id,wavelength,flux\n" + "".join(rows))
    cells = [f'{i},"[{",".join(map(repr, row))}]",{k}\n' for k, (i, row) in enumerate(zip(ids, flux.tolist()))]
    header = "# %ECSV 1.0\n# ---\n# delimiter: ','\n# datatype:\n# - {name: source_id, datatype: int64}\n"
    header += "# - {name: flux, unit: W / (m2 nm), datatype: string, subtype: 'float64[343]'}\n"
    header += "# - {name: solution_id, datatype: int64}\n"
    (tmp_path / "f.csv").write_text(header + "source_id,flux,solution_id\n" + "".join(cells))
    for name in ("a.h5", "b.parquet", "c.parquet", "d.fits", "e.csv", "f.csv"):
        done = xp("wiggles", "correct", tmp_path / name, "-o", tmp_path / "out.h5", "--overwrite")
        assert done.exit_code == 0, (name, done.stderr)
        found = read_catalogue(tmp_path / "out.h5")
        np.testing.assert_array_equal(found.columns["source_id"], ids)
        np.testing.assert_array_equal(found.shared["wavelength"], GRID)
        scale = flux.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(found.columns["flux"] / scale, expected(stars) / scale, atol=1e-6, err_msg=name)
        assert ("flux_error" in found.columns) == (name in ("b.parquet", "c.parquet"))
    assert "name" in read_spectra(tmp_path / "a.h5").columns


def test_stars_that_are_not_of_xp_are_flagged(tmp_path: Path, stars: SourceTable) -> None:
    flux = flux_of(stars)
    flux[2] = np.roll(flux[2], 1)
    write(tmp_path / "in.h5", Catalogue({"source_id": stars.source_id, "flux": flux}, shared={"wavelength": GRID}))
    done = xp("wiggles", "correct", tmp_path / "in.h5", "-o", tmp_path / "out.h5")
    assert done.exit_code == 0, done.stderr
    assert "1  NOT_CORRECTED" in done.stderr
    found = read_catalogue(tmp_path / "out.h5").columns
    np.testing.assert_array_equal(np.flatnonzero(found["xp_status"] & Status.NOT_CORRECTED), [2])
    np.testing.assert_array_equal(found["flux"][2], flux[2])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("internal.h5",), "internal spectra"),
        (("done.h5",), "already corrected (correction standard)"),
        (("smooth.h5",), "--resolution full"),
        (("sources.parquet",), "has no flux"),
        (("spectra.h5", "--correction", "none"), "leaves spectra as they are"),
        (("spectra.h5", "--correction", "spectra.h5"), "correction"),
        (("spectra.h5", "--correction", "absent.h5"), "no such file"),
        (("spectra.h5", "--features", "sources.parquet"), "are for networks"),
        (("spectra.h5", "--float64"), "are for networks"),
    ],
)
def test_wrong_calls_exit_with_2_and_leave_nothing(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    before = files(folder)
    done = xp(
        "wiggles", "correct", *[folder / one if "." in one else one for one in arguments], "-o", folder / "new.h5"
    )
    assert done.exit_code == 2
    assert told in done.stderr
    assert files(folder) == before
