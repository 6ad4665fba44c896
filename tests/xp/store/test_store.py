"""The store: round trips, h5py alone, selections, and every damage found."""

import dataclasses
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy import units as u

from tests.marks import slow_after
from xpjax.core.release import Release
from xpjax.core.status import Status
from xpjax.xp import StoreError, is_store, open_store, simulate, write_store_file
from xpjax.xp.compact import COMPACT, CompactCovariance
from xpjax.xp.read.archive import read
from xpjax.xp.sources import SourceTable, XPCoefficients
from xpjax.xp.store import format as store_format
from xpjax.xp.store.format import CORRELATIONS
from xpjax.xp.store.writer import StoreWriter

OTHER = Release("Gaia DR4", (51, 55))
N = 9000


@pytest.fixture(scope="module")
def table() -> SourceTable:
    """Simulated sources in the order of source_id, one without BP."""
    table = simulate.simulate_sources(N, seed=11)
    table = table[np.argsort(table.source_id)]
    c, bp = table.coefficients, table.release.slices[0]
    c.value[5, bp] = c.error[5, bp] = np.nan
    c.correlation[5, table.release.pair_slices[0]] = np.nan
    c.n_relevant[5, 0] = 0
    table.status[5] = Status.BP_MISSING
    return table


@pytest.fixture(scope="module")
def folder(table: SourceTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three files."""
    folder = tmp_path_factory.mktemp("store")
    for k in range(3):
        write_store_file(folder / f"part{k}.h5", table[k * 3000 : (k + 1) * 3000])
    return folder


def assert_same(found: SourceTable, expected: SourceTable, tolerance: float = 0) -> None:
    """All arrays equal, to the last bit but for fixed-point correlations."""
    a, b = found.coefficients, expected.coefficients
    np.testing.assert_array_equal(found.source_id, expected.source_id)
    np.testing.assert_array_equal(found.status, expected.status)
    for name in ("value", "error", "n_relevant"):
        assert (getattr(a, name) is None) == (getattr(b, name) is None), name
        if getattr(a, name) is not None:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    if b.correlation is not None and a.correlation is not None:
        np.testing.assert_allclose(a.correlation, b.correlation, rtol=0, atol=tolerance)
    if a.covariance is not None:
        assert_same_covariance(a.covariance, b.compact().covariance)


def assert_same_covariance(a: CompactCovariance, b: CompactCovariance) -> None:
    """Counts equal but for their rounding, as sources are reduced together or apart."""
    assert a.subspace == b.subspace
    np.testing.assert_allclose(a.scale, b.scale, rtol=1e-6)
    known = np.isfinite(a.scale).any(axis=0)  # of an XP that no source lacks altogether
    for there, mine, other in zip(known, a.packed, b.packed, strict=True):
        assert mine.dtype == other.dtype == np.int16
        assert mine.ctypes.data % 64 == 0
        np.testing.assert_allclose(mine.astype(int), other.astype(int), rtol=0, atol=1)
        assert np.abs(mine).max() == (32767 if there else 0)
    np.testing.assert_allclose(a.rest_scale, b.rest_scale, rtol=1e-5)
    for there, size, mine, other in zip(known, a.subspace.size, a.rest, b.rest, strict=True):
        assert mine.dtype == other.dtype == np.int8
        assert mine.ctypes.data % 64 == 0
        first = slice(0, len(size))
        np.testing.assert_allclose(mine[:, first].astype(int), other[:, first].astype(int), rtol=0, atol=1)
        assert np.abs(mine).max() == (127 if there else 0)


@pytest.mark.parametrize("kind", CORRELATIONS)
@pytest.mark.parametrize("blocks", slow_after(2, [1, 700, None, 4096]))
def test_round_trip(tmp_path: Path, table: SourceTable, kind: str, blocks: int | None) -> None:
    table = table if blocks != 1 else table[:10]
    path = tmp_path / "part.h5"
    if blocks is None:
        write_store_file(path, table, correlations=kind, attrs={"note": "é", "answer": 42})
    else:
        with StoreWriter(path, table.release, correlations=kind) as writer:
            for start in range(0, len(table), blocks):
                writer.append(table[start : start + blocks])
    (file,) = open_store(path).files
    assert file.verify() == []
    assert (len(file), file.correlations, file.has_errors) == (len(table), kind, True)
    assert file.columns == tuple(table.columns)
    assert file.units["ra"] == "deg"
    found = file.read(columns=None)
    assert_same(found, table, 1.6e-5)
    assert (found.coefficients.correlation is None) == (kind == "none" or kind == COMPACT)
    assert (found.coefficients.covariance is None) == (kind != COMPACT)
    assert found.coefficients.value.ctypes.data % 64 == 0
    for name, column in table.columns.items():
        np.testing.assert_array_equal(found.columns[name], column)
        assert found.columns[name].dtype == column.dtype
    part = slice(min(3, len(table)), min(5000, len(table)))
    for check in (True, False):
        assert_same(file.read(part.start, part.stop, check=check), table[part], 1.6e-5)
    bare = file.read(0, 2, errors=False, correlations=False)
    assert bare.coefficients.error is None
    assert not bare.coefficients.has_covariance


def test_one_row_at_a_time_equals_the_whole(folder: Path, table: SourceTable) -> None:
    file = open_store(folder).files[0]
    rows = np.array([0, 1, 5, 6, 2999])
    for check in (True, False):
        assert_same(file.take(rows, check=check), table[rows])
    assert len(file.take(np.empty(0, int))) == 0
    for wrong in ([2, 1], [1, 1], [-1], [3000]):
        with pytest.raises(ValueError, match=r"ascend within 0\.\.2999"):
            file.take(np.array(wrong))
    with pytest.raises(ValueError, match=r"rows 5..4000 asked for, the file has 3000"):
        file.read(5, 4000)
    with pytest.raises(ValueError, match="no column nothing; it has ra, dec"):
        file.read(columns=["nothing"])


def test_h5py_alone_can_read_it(folder: Path, table: SourceTable) -> None:
    with h5py.File(folder / "part1.h5") as file:
        for name in file:
            if isinstance(file[name], h5py.Dataset):
                assert file[name].chunks is None
                assert len(file[name]) == 3000
        np.testing.assert_array_equal(file["source_id"][()], table.source_id[3000:6000])
        bp = table.release.slices[0]
        np.testing.assert_array_equal(file["bp_coefficients"][()], table.coefficients.value[3000:6000, bp])
        assert file["ra"].attrs["unit"] == b"deg"
        assert file.attrs["format"] == b"xpjax store"
        assert list(file.attrs["release_n_basis"]) == list(table.release.n_basis)
        data = file["rp_coefficient_errors"][()].tobytes()
        assert file["checksum/rp_coefficient_errors"][0] == zlib.crc32(data)
    write_store_file(folder.parent / "int16.h5", table[:50], correlations="int16", overwrite=True)
    with h5py.File(folder.parent / "int16.h5") as file:
        data = file["bp_coefficient_correlations"]
        there = np.arange(50) != 5
        found = data[()][there] * data.attrs["scale"]
        expected = table.coefficients.correlation[:50, table.release.pair_slices[0]][there]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1.6e-5)
        assert (data[5] == -32768).all()


def test_without_isal_checksums_are_the_same(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    store_format.crc32.cache_clear()
    try:
        assert store_format.crc32() is zlib.crc32
        assert open_store(folder).verify() == []
    finally:
        store_format.crc32.cache_clear()


def test_batches_are_sized_in_bytes(folder: Path, tmp_path: Path, table: SourceTable) -> None:
    write_store_file(tmp_path / "all.h5", table)
    (file,) = open_store(tmp_path).files
    sources = file.read(0, 10)
    c = sources.coefficients
    per_row = sum(a.nbytes for a in (c.value, c.error, c.correlation, c.n_relevant, sources.source_id, sources.status))
    assert file.row_bytes() == per_row // 10
    assert file.row_bytes(correlations=False, errors=False) < file.row_bytes(correlations=False) < per_row // 10
    assert list(file.batches(1)) == [(0, 4096), (4096, 8192), (8192, 9000)]
    assert list(file.batches(file.row_bytes() * 8192 + 5)) == [(0, 8192), (8192, 9000)]
    assert list(file.batches(10**9)) == [(0, 9000)]
    assert len(list(file.batches(file.row_bytes(False) * 8192, correlations=False))) == 2


def test_a_store_is_opened_lazily_and_read_whole(folder: Path, table: SourceTable) -> None:
    found = open_store(str(folder))
    assert len(found) == N
    assert [file.name for file in found.files] == ["part0", "part1", "part2"]
    assert [file.source_ids[0] for file in found.files] == table.source_id[::3000].tolist()
    assert found.columns == tuple(table.columns)
    assert (found.correlations, found.release) == ("float32", table.release)
    assert all("_datasets" not in vars(file) for file in found.files)
    assert_same(found.read(), table)
    assert_same(read(folder), table)
    assert_same(read(folder / "part0.h5", keep=["ra"]), table[:3000])
    assert list(read(folder / "part0.h5", keep=["ra"]).columns) == ["ra"]
    assert read(folder / "part0.h5", dtype=np.float64).coefficients.value.dtype == np.float64


def test_memory_is_used_again_where_it_fits(folder: Path, table: SourceTable) -> None:
    file = open_store(folder).files[0]
    first = file.read(0, 2000)
    second = file.read(500, 2000, into=first)
    assert np.shares_memory(first.coefficients.correlation, second.coefficients.correlation)
    assert_same(second, table[500:2000])
    third = file.read(0, 3000, into=first)
    assert not np.shares_memory(first.coefficients.value, third.coefficients.value)
    assert_same(third, table[:3000])
    assert_same(file.read(0, 5, into=file.read(0, 9, errors=False, correlations=False)), table[:5])


def test_what_is_no_store(tmp_path: Path, folder: Path, table: SourceTable) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        open_store(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no store file"):
        open_store(tmp_path)
    (tmp_path / "text.h5").write_text("hello, this is no HDF5")
    with pytest.raises(ValueError, match=r"text\.h5: no HDF5 file, or its first bytes are damaged"):
        open_store(tmp_path)
    with h5py.File(tmp_path / "text.h5", "w") as file:
        file["x"] = [1, 2]
    with pytest.raises(ValueError, match=r"text\.h5: no xpjax store file"):
        open_store(tmp_path / "text.h5")
    assert not is_store(tmp_path / "text.h5")
    assert not is_store(tmp_path)
    assert is_store(folder)
    (tmp_path / "text.h5").unlink()


def test_another_release_and_no_sources(tmp_path: Path) -> None:
    other = simulate.simulate_sources(40, seed=2, release=OTHER)
    write_store_file(tmp_path / "other.h5", other, correlations="float32")
    found = open_store(tmp_path / "other.h5")
    assert found.release == OTHER
    assert_same(found.read(), other)
    assert read(tmp_path / "other.h5").release.n_basis == OTHER.n_basis
    with StoreWriter(tmp_path / "empty.h5", OTHER):
        pass
    write_store_file(tmp_path / "none.h5", other[:0])
    found = open_store(tmp_path)
    assert len(found) == 40
    assert found.verify() == []
    assert [len(file) for file in found.files] == [0, 0, 40]
    assert found.files[0].read().coefficients.value.shape == (0, OTHER.n_basis_total)
    assert len(found.select(cone=(1, 2, 3))) <= 40


def test_odd_tables(tmp_path: Path, table: SourceTable) -> None:
    """float64 coefficients, no errors, text and masked columns; and what cannot be stored."""
    c = table.coefficients
    bare = XPCoefficients(c.value[:5].astype(float), None, None, None, c.release)
    columns = {
        "designation": np.array(["Gaia é", "", "b", "c", "d"], object),
        "epoch": np.arange(5, dtype=np.int16),
        "flag": np.array([True, False, True, False, True]),
        "masked": np.ma.array(np.arange(5), mask=[0, 1, 0, 0, 0]),
        "pair": np.arange(10.0).reshape(5, 2),
    }
    odd = SourceTable(np.array([4, 0, 3, 2, 1]), bare, np.zeros(5, np.uint32), columns)
    write_store_file(tmp_path / "odd.h5", odd, units={"epoch": "yr"})
    (file,) = open_store(tmp_path).files
    assert (file.has_errors, file.correlations, file.attrs["sorted"]) == (False, "none", False)
    assert file.source_ids == (1, 4)
    assert file.units == {"epoch": "yr"}
    found = file.read(columns=None)
    assert found.coefficients.error is None
    assert found.coefficients.n_relevant is None
    assert found.columns["designation"].tolist() == columns["designation"].tolist()
    assert found.columns["masked"].tolist() == [0, None, 2, 3, 4]
    for name in ("epoch", "flag", "pair"):
        np.testing.assert_array_equal(found.columns[name], columns[name])
    assert file.verify() == []
    for name, column in (("x", np.array([{}] * 5)), ("source_id", np.arange(5)), ("checksum", np.arange(5))):
        with pytest.raises(ValueError, match=name):
            write_store_file(tmp_path / "no.h5", dataclasses.replace(odd, columns={name: column}))
    with StoreWriter(tmp_path / "mixed.h5", c.release) as writer:
        writer.append(odd)
        with pytest.raises(ValueError, match="other columns than the first"):
            writer.append(table[:3])
    with pytest.raises(ValueError, match=r"ends in \.h5"):
        write_store_file(tmp_path / "part.fits", odd)
    with pytest.raises(ValueError, match="correlations must be one of"):
        write_store_file(tmp_path / "part.h5", odd, correlations="int8")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_store_file(tmp_path / "odd.h5", odd)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed.h5", "odd.h5"]


@pytest.mark.parametrize("positions", [True, False])
def test_select(tmp_path: Path, folder: Path, table: SourceTable, positions: bool) -> None:
    """All four ways against astropy and plain NumPy on the whole table."""
    from astropy.coordinates import SkyCoord
    from astropy_healpix import HEALPix

    columns = table.columns if positions else {"phot_g_mean_mag": table.columns["phot_g_mean_mag"]}
    for k in range(3):
        part = dataclasses.replace(table, columns=columns)[k * 3000 : (k + 1) * 3000]
        write_store_file(tmp_path / f"{k}.h5", part, correlations="none")
    found = open_store(tmp_path)
    if positions:
        place = SkyCoord(table.columns["ra"], table.columns["dec"], unit="deg")
    else:
        lon, lat = HEALPix(4096, "nested").healpix_to_lonlat(table.source_id >> 35)
        place = SkyCoord(lon, lat)
    for cone in ((10, 20, 3), (0, 89.5, 12), (359.95, -0.1, 4), (120, -89, 30), (50, 50, 180), (266.0, -29.0, 0)):
        inside = place.separation(SkyCoord(*cone[:2], unit="deg")).deg <= cone[2]
        np.testing.assert_array_equal(found.select(cone=cone).source_id, table.source_id[inside])
        quantities = (np.radians(cone[0]) * u.rad, cone[1] * u.deg, 60 * cone[2] * u.arcmin)
        np.testing.assert_array_equal(found.select(cone=quantities).source_id, table.source_id[inside])
    ids = np.random.default_rng(1).choice(table.source_id, 40, replace=False)
    got = found.select([*ids, 17])
    assert_same(got, table[np.isin(table.source_id, ids)])
    assert_same(found.select(ids, check=False), got)
    pixels = [0, 3, 4, 5, 191]
    inside = np.isin(table.source_id >> 55, pixels)
    assert inside.any()
    assert_same(found.select(healpix=(2, pixels)), table[inside])
    g = table.columns["phot_g_mean_mag"]
    assert_same(found.select(magnitude=(12, 13)), table[(g >= 12) & (g <= 13)])
    assert_same(found.select(ids, healpix=(2, pixels)), table[inside & np.isin(table.source_id, ids)])
    nothing = found.select(magnitude=(-5, -4))
    assert len(nothing) == 0
    assert list(nothing.columns) == list(columns)
    assert found.select(ids, columns=(), errors=False).coefficients.error is None


def test_selections_that_cannot_be(tmp_path: Path, folder: Path, table: SourceTable) -> None:
    found = open_store(folder)
    for wrong in ((13, [1]), (-1, [1]), (3, [1.5]), (0, [12]), (0, [-1])):
        with pytest.raises(ValueError, match="HEALPix"):
            found.select(healpix=wrong)
    for cone in ((0, 91, 1), (np.nan, 0, 1), (0, 0, -1)):
        with pytest.raises(ValueError, match="a cone is ra, dec, radius"):
            found.select(cone=cone)
    with pytest.raises(ValueError, match="cone: radius has the unit s; expected angles"):
        found.select(cone=(0, 0, 1 * u.s))
    with pytest.raises(ValueError, match="source ids are float64, which rounds them; read them as int64 or text"):
        found.select(table.source_id[:3].astype(float))
    write_store_file(tmp_path / "bare.h5", dataclasses.replace(table[:9], columns={}))
    with pytest.raises(ValueError, match=r"bare\.h5: no column phot_g_mean_mag"):
        open_store(tmp_path).select(magnitude=(1, 20))


def test_impossible_positions_are_those_of_the_ids(tmp_path: Path, table: SourceTable) -> None:
    columns = {name: table.columns[name][:20].copy() for name in ("ra", "dec")}
    place = float(columns["ra"][3]), float(columns["dec"][3])
    columns["ra"][3] = columns["dec"][3] = -999
    write_store_file(tmp_path / "a.h5", dataclasses.replace(table[:20], columns=columns), correlations="none")
    found = open_store(tmp_path).select(cone=(*place, 60 / 3600))
    assert table.source_id[3] in found.source_id


def places_to_damage(path: Path) -> np.ndarray:
    """All bytes of HDF5's own that are not zero, every 7th zero within eight of one (it reserves long runs of them),
    and every 50th byte of the datasets."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    held = np.zeros(len(content), bool)

    def mark(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.id.get_offset() is not None:
            held[item.id.get_offset() :][: item.id.get_storage_size()] = True

    with h5py.File(path) as file:
        file.visititems(mark)
    data = np.flatnonzero(held)
    near = np.convolve(content != 0, np.ones(17), "same") > 0  # eight bytes, one number, on either side
    own, zeros = np.flatnonzero(~held & (content != 0)), np.flatnonzero(~held & (content == 0) & near)
    return np.concatenate([own, zeros[::7], data[::50]])


@pytest.mark.slow
def test_every_flipped_byte_is_found_or_harmless(tmp_path: Path) -> None:
    """Whatever byte changes: reading raises StoreError, or gives what was stored."""
    release = Release("small", (3,), ("bp",))
    value = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
    coefficients = XPCoefficients(value, value / 100, value / 10, np.array([[3], [2]], np.int32), release)
    table = SourceTable(np.array([1, 2]) << 40, coefficients, np.zeros(2, np.uint32), {"ra": np.array([1.0, 2.0])})
    path = tmp_path / "part.h5"
    write_store_file(path, table)
    places = places_to_damage(path)
    assert len(places) > 1000
    messages = []
    with path.open("r+b", buffering=0) as stream:
        for place in places.tolist():
            stream.seek(place)
            byte = stream.read(1)
            stream.seek(place)
            # Fields are of 2, 4 and 8 bytes: another bit in each byte of a field, and in the next field.
            stream.write(bytes([byte[0] ^ 1 << (place + place // 8) % 8]))
            try:
                (file,) = open_store(path).files
                problems = file.verify()
                got = file.read(columns=None)
            except (StoreError, ValueError) as exc:
                messages.append(str(exc))
            else:
                assert problems == []
                assert_same(got, table)
                np.testing.assert_array_equal(got.columns["ra"], table.columns["ra"])
            stream.seek(place)
            stream.write(byte)
    assert len(messages) > 0.8 * len(places)
    assert all("part.h5" in message for message in messages)


def flip(path: Path, dataset: str, row: int) -> None:
    with h5py.File(path) as file:
        data = file[dataset]
        place = data.id.get_offset() + row * data.dtype.itemsize * int(np.prod(data.shape[1:], initial=1))
    with path.open("rb+") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 4]))


def test_damage_is_named(tmp_path: Path, table: SourceTable) -> None:
    for k in range(2):
        write_store_file(tmp_path / f"{k}.h5", table)
    flip(tmp_path / "1.h5", "rp_coefficient_errors", 5000)
    found = open_store(tmp_path)
    (problem,) = found.verify()
    for text in (str(tmp_path / "1.h5"), "rp_coefficient_errors", "rows 4096..8191", "CRC-32"):
        assert text in problem
    file = found.files[1]
    with pytest.raises(StoreError, match=r"rp_coefficient_errors: rows 4096\.\.8191 are damaged"):
        file.read(8000, 8100)
    with pytest.raises(StoreError):
        file.take(np.array([8000]))
    assert_same(file.read(8000, 8100, check=False), table[8000:8100])
    assert_same(file.read(0, 4096), table[:4096])
    assert len(file.read(8000, 8100, errors=False)) == 100


def test_damaged_files_of_a_directory_are_listed(tmp_path: Path, table: SourceTable) -> None:
    for k in range(2):
        write_store_file(tmp_path / f"{k}.h5", table[k * 100 : k * 100 + 100])
    with (tmp_path / "0.h5").open("rb+") as stream:
        stream.truncate(100_000)
    found = open_store(tmp_path)
    assert len(found) == 100
    good, bad = found.files
    assert (good.damage, bad.name) == ("", "0")
    assert "0.h5" in bad.damage
    assert found.verify() == [bad.damage]
    for call in (bad.read, lambda: list(bad.batches(1)), lambda: bad.take(np.array([0])), lambda: found.select([1])):
        with pytest.raises(StoreError, match=r"0\.h5"):
            call()
    with pytest.raises(StoreError, match=r"0\.h5"):
        open_store(tmp_path / "0.h5")


LIMITED = """
import resource, sys
from xpjax.xp import simulate
from xpjax.xp.store.writer import StoreWriter, write_store_file
table = simulate.simulate_sources(300)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
def blocks():
    with StoreWriter("part.h5", table.release) as writer:
        writer.append(table[:100])
        writer.append(table[100:])
for write in (lambda: write_store_file("part.h5", table), blocks):
    try:
        write()
    except OSError as exc:
        print(exc)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of file sizes as Linux has them")
@pytest.mark.parametrize("limit", slow_after(1, [50_000, 1000, 3_000_000]))
def test_disk_that_takes_no_more(tmp_path: Path, limit: int) -> None:
    """Written whole, and in blocks."""
    command = [sys.executable, "-c", LIMITED, str(limit)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("cannot write part.h5: "), done.stdout
        assert line.endswith("(ulimit -f) allow; write several files"), done.stdout
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys
from xpjax.xp import simulate
from xpjax.xp.store.writer import StoreWriter
table = simulate.simulate_sources(300)
with StoreWriter("part.h5", table.release) as writer:
    for _ in range(3):
        writer.append(table)
    print("written", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_killed_writer_leaves_no_file(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", KILLED], cwd=tmp_path, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_an_error_within_leaves_no_file(tmp_path: Path, table: SourceTable) -> None:
    def write() -> None:
        with StoreWriter(tmp_path / "x.h5", table.release) as writer:
            writer.append(table[:10])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write()
    assert list(tmp_path.iterdir()) == []
