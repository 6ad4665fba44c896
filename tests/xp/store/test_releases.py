"""One store with files of two data releases: each is read by itself, and nothing mixes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import xpjax
from xpjax.core.release import DR3, DR4, Release
from xpjax.xp import write_store_file
from xpjax.xp.sources import SourceTable
from xpjax.xp.store.writer import StoreWriter


@pytest.fixture(scope="module")
def tables() -> dict[Release, SourceTable]:
    """Sources of both releases, half of them with the same ids."""
    return {DR3: xpjax.simulate_sources(30, seed=1), DR4: xpjax.simulate_sources(20, seed=1, release="DR4")}


@pytest.fixture
def folder(tmp_path: Path, tables: dict[Release, SourceTable]) -> Path:
    """A store that was ingested from files of both."""
    for release, table in tables.items():
        xpjax.write(tmp_path / f"sources_{release.n_basis[0]}.csv.gz", table)
    report = xpjax.ingest(sorted(tmp_path.glob("*.csv.gz")), tmp_path / "xp", correlations="float32")
    assert report.failures == {}
    return tmp_path / "xp"


def test_each_release_is_read_by_itself(folder: Path, tables: dict[Release, SourceTable]) -> None:
    store = xpjax.open_store(folder)
    assert store.releases == (DR3, DR4)
    assert len(store) == 50
    assert store.verify() == []
    for release, table in tables.items():
        for found in (
            store.read(release=release), store.only(release.name).read(), xpjax.read(folder, release=release),
            xpjax.open_store(folder, release).select(healpix=(0, np.arange(12))),
        ):  # fmt: skip
            assert found.release is release or found.release == release
            np.testing.assert_array_equal(found.source_id, table.source_id)
            np.testing.assert_array_equal(found.coefficients.value, table.coefficients.value)
            np.testing.assert_array_equal(found.coefficients.correlation, table.coefficients.correlation)


def test_what_would_mix_them_is_refused_by_name(folder: Path, tables: dict[Release, SourceTable]) -> None:
    store = xpjax.open_store(folder)
    several = r"xp holds several data releases: 30 sources of Gaia DR3, 20 sources of Gaia DR4; say which .*release="
    for refused in (lambda: store.release, store.read, lambda: xpjax.read(folder)):
        with pytest.raises(ValueError, match=several):
            refused()
    same = tables[DR3].source_id[:5]
    with pytest.raises(ValueError, match=r"5 of these sources are of Gaia DR3, 5 of these sources are of Gaia DR4"):
        store.select(same)
    for release in tables:
        found = store.select(same, release=release)
        assert (len(found), found.release) == (5, release)
    only = tables[DR3].source_id[25:]
    found = store.select(only)  # of one release alone: nothing to say
    assert (len(found), found.release) == (5, DR3)
    assert len(store.select([12345])) == 0
    with pytest.raises(ValueError, match=r"no file of another \(9, 9\); it has files of Gaia DR3 \(55, 55\), Gaia DR4"):
        store.only(Release("another", (9, 9)))
    with pytest.raises(ValueError, match=r"sources_51\.h5 has no file of Gaia DR3"):
        xpjax.open_store(folder / "sources_51.h5", "Gaia DR3")


def test_a_file_holds_one_release(folder: Path, tmp_path: Path, tables: dict[Release, SourceTable]) -> None:
    def write_both() -> None:
        with StoreWriter(tmp_path / "both.h5", DR3, spill=False) as writer:
            writer.append(tables[DR3])
            writer.append(tables[DR4])

    with pytest.raises(ValueError, match=r"of Gaia DR4.*but Gaia DR3"):
        write_both()
    assert not (tmp_path / "both.h5").exists()
    # Another release under the name of a file that is there is no newer version of it.
    xpjax.write(tmp_path / "sources_55.csv", tables[DR4])
    report = xpjax.ingest([tmp_path / "sources_55.csv"], folder, overwrite=True)
    assert "sources_55.h5 is of Gaia DR3, this file of Gaia DR4" in report.failures["sources_55.csv"]
    assert len(xpjax.open_store(folder / "sources_55.h5")) == 30


def test_a_damaged_file_belongs_to_every_release(folder: Path) -> None:
    (folder / "zzz.h5").write_bytes((folder / "sources_51.h5").read_bytes()[:3000])
    store = xpjax.open_store(folder)
    assert store.releases == (DR3, DR4)
    assert [bool(file.damage) for file in store.only(DR3).files] == [False, True]
    with pytest.raises(ValueError, match=r"zzz\.h5: the file is damaged"):
        store.read(release=DR3)


def test_files_that_are_named_by_their_sizes(tmp_path: Path) -> None:
    write_store_file(tmp_path / "old.h5", xpjax.simulate_sources(3, release=Release("51+55", (51, 55))))
    assert xpjax.open_store(tmp_path / "old.h5").release is DR4


def test_releases_by_name(tmp_path: Path) -> None:
    a, b = xpjax.simulate_sources(4, seed=3, release="Gaia DR4"), xpjax.simulate_sources(4, seed=3, release=DR4)
    np.testing.assert_array_equal(a.coefficients.correlation, b.coefficients.correlation)
    with pytest.raises(ValueError, match="unknown release 'DR5'"):
        xpjax.simulate_sources(4, release="DR5")
    xpjax.write(tmp_path / "a.parquet", a)
    assert xpjax.ingest([tmp_path / "a.parquet"], tmp_path / "xp", release="dr4").failures == {}
    report = xpjax.ingest([tmp_path / "a.parquet"], tmp_path / "other", release="DR3")
    assert "a.parquet is of Gaia DR4" in report.failures["a.parquet"]
