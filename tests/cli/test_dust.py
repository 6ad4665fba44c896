"""`xpjax ebv`: arrays, tables and the command agree; what takes its output; a map that is not there."""

from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.cli.helpers import files, xp
from tests.cli.test_scr import TOML, run as scr, table as scr_table
from tests.extinction.made_maps import make_healpix, make_sfd
from tests.stellar.test_fitter import made_sources
from xpjax.core.sky import pixel_centers
from xpjax.extinction import add_ebv, ebv
from xpjax.io.catalogue import read_catalogue, write
from xpjax.wiggles.feature_files import read_features

pytest.importorskip("dustmaps", reason="needs dustmaps: pip install 'xpjax[dust]'")
N = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("dust")
    make_sfd(home / "sfd")
    make_healpix(home)
    write(home / "xp.parquet", xpjax.simulate_sources(N, seed=4).catalogue())
    return home


@pytest.mark.parametrize("suffix", ["parquet", "fits", "csv", "h5"])
def test_arrays_tables_and_the_command_agree(folder: Path, tmp_path: Path, suffix: str) -> None:
    known = read_catalogue(folder / "xp.parquet").columns
    write(tmp_path / f"in.{suffix}", read_catalogue(folder / "xp.parquet"))
    out = tmp_path / f"out.{suffix}"
    done = xp("ebv", tmp_path / f"in.{suffix}", "--map", "gnilc", "--map-dir", folder, "-o", out)
    assert done.exit_code == 0, done.stderr
    assert "GNILC, scale sfd: A_V = 2.742 E(B-V)" in done.stderr
    found = read_catalogue(out)
    by_arrays = ebv(known["ra"], known["dec"], "gnilc", folder=folder)
    by_table = add_ebv(tmp_path / f"in.{suffix}", "gnilc", folder=folder)
    for name in ("ebv", "ebv_error"):
        assert np.isfinite(found.columns[name]).all()
        np.testing.assert_array_equal(found.columns[name], getattr(by_table, name))
        np.testing.assert_array_equal(found.columns[name], getattr(by_arrays, name))
    assert list(found.columns) == [*read_catalogue(tmp_path / f"in.{suffix}").columns, "ebv", "ebv_error"]
    if suffix != "csv":
        assert (found.meta["ebv_map"], found.meta["ebv_a_v"], found.units["ebv"]) == ("gnilc", 2.742, "mag")
    before, after = xpjax.read(folder / "xp.parquet"), xpjax.read(out)
    np.testing.assert_allclose(after.coefficients.value, before.coefficients.value, rtol=1e-6)


def test_ids_alone_are_enough_and_said(folder: Path, tmp_path: Path) -> None:
    number = xpjax.read(folder / "xp.parquet").source_id
    (tmp_path / "ids.csv").write_text("source_id\n" + "\n".join(map(str, number)) + "\n")
    done = xp("ebv", tmp_path / "ids.csv", "--map-dir", folder / "sfd", "--scale", "true", "-o", tmp_path / "out.csv")
    assert done.exit_code == 0, done.stderr
    assert "positions are those that source_id encodes, within 0.9 arcmin" in done.stderr
    found = read_catalogue(tmp_path / "out.csv").columns
    np.testing.assert_array_equal(found["source_id"], number)
    np.testing.assert_array_equal(found["ebv"], ebv(*pixel_centers(number), scale="true", folder=folder).ebv)


def test_without_the_map_the_command_says_what_to_download(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dustmaps.std_paths

    monkeypatch.setattr(dustmaps.std_paths, "data_dir", lambda: str(tmp_path / "maps"))
    call = ("ebv", folder / "xp.parquet", "-o", tmp_path / "out.parquet")
    done = xp(*call)
    assert done.exit_code == 2
    for part in (
        *(str(tmp_path / "maps" / "sfd"), "SFD_dust_4096_ngp.fits and SFD_dust_4096_sgp.fits (2 x 67 MB)"),
        *('python -c "import dustmaps.sfd; dustmaps.sfd.fetch()"', "--map-dir", "config['data_dir']"),
    ):
        assert part in done.stderr
    assert files(tmp_path) == []
    make_sfd(tmp_path / "maps" / "sfd")
    assert xp(*call).exit_code == 0
    assert xp(*call).exit_code == 2, "the output exists"
    again = xp("ebv", tmp_path / "out.parquet", "-o", tmp_path / "twice.parquet")
    assert again.exit_code == 2
    assert "--column ebv_sfd" in again.stderr


@pytest.mark.slow
def test_features_and_stores_take_the_column(folder: Path, tmp_path: Path) -> None:
    sources = made_sources(8)[0]
    columns = {name: column for name, column in sources.columns.items() if name != "ebv"}
    ra, dec = pixel_centers(np.arange(1, 9) << 40)
    columns |= {"ra": ra, "dec": dec}
    sources = xpjax.SourceTable(sources.source_id, sources.coefficients, sources.status, columns, sources.origin)
    write(tmp_path / "bare.parquet", sources.catalogue())
    done = xp("ebv", tmp_path / "bare.parquet", "--map-dir", folder, "-o", tmp_path / "xp.parquet")
    assert done.exit_code == 0, done.stderr
    expected = ebv(ra, dec, folder=folder).ebv
    done = xp("wiggles", "features", tmp_path / "xp.parquet", "--ebv", "ebv", "-o", tmp_path / "features.h5")
    assert done.exit_code == 0, done.stderr
    np.testing.assert_allclose(read_features(tmp_path / "features.h5").ebv, expected, rtol=1e-6)

    bulk = ("store", "ingest", tmp_path / "bare.parquet", "--store", tmp_path / "store", "--correlations", "float32")
    done = xp(*bulk, "--gaia-source", tmp_path / "xp.parquet")
    assert done.exit_code == 0, done.stderr
    stored = xpjax.open_store(tmp_path / "store").files[0].read(columns=None).columns
    np.testing.assert_allclose(stored["ebv"], expected, rtol=1e-6)
    np.testing.assert_allclose(stored["ebv_error"], 0.16 * expected, rtol=1e-6)


@pytest.mark.slow
def test_color_regression_takes_column_and_error(folder: Path, tmp_path: Path) -> None:
    stars = scr_table()[0]
    n = len(stars)
    rng = np.random.default_rng(1)
    columns = {name: column for name, column in stars.columns.items() if name != "e"}
    columns |= {"ra": rng.uniform(0, 360, n), "dec": rng.uniform(-60, 60, n)}
    write(tmp_path / "stars.fits", type(stars)(columns))
    done = xp("ebv", tmp_path / "stars.fits", "--map-dir", folder, "-o", tmp_path / "with.fits")
    assert done.exit_code == 0, done.stderr
    toml = TOML.replace('reddening = "e"', 'reddening = "ebv"\nreddening_error = "ebv_error"', 1)
    (tmp_path / "scr.toml").write_text(toml)
    done = scr(tmp_path / "with.fits", "--config", tmp_path / "scr.toml", "--output", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "R = " in done.stderr
