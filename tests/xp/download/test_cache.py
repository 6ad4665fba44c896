"""The cache: whole parts, damaged and merged ones, ids without rows, and several processes at once."""

from __future__ import annotations

import datetime
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from xpjax.xp.download import cache as module
from xpjax.xp.download.cache import Cache, cache_root


def rows(ids: list[int] | np.ndarray) -> dict[str, np.ndarray]:
    """Columns of all kinds that tell whose they are."""
    ids = np.asarray(ids, np.int64)
    return {
        "source_id": ids,
        "value": ids[:, None] + np.arange(70.0),
        "n": ids.astype(np.int16),
        "name": np.array([f"Gaia {one} µ" for one in ids]),
        "good": ids % 2 == 0,
    }


def check(cache: Cache, ids: list[int] | np.ndarray) -> None:
    """Every one of these ids comes back once, with what is its own."""
    found = cache.take(np.asarray(ids))
    got = {n: np.concatenate([part[n] for part in found]) for n in found[0]}
    order = np.argsort(got["source_id"])
    check_equal({name: column[order] for name, column in got.items()}, np.sort(ids))


def check_equal(found: dict[str, np.ndarray], ids: list[int] | np.ndarray) -> None:
    for name, column in rows(ids).items():
        assert np.array_equal(found[name], column), name
        assert found[name].dtype.kind == column.dtype.kind


def test_rows_come_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert not cache.has(np.array([3, 4])).any()
    cache.add(rows([5, 3, 9]))
    cache.add(rows(np.arange(100, 2000)))
    for one in (cache, Cache(tmp_path)):
        assert one.has(np.array([3, 4, 5, 150])).tolist() == [True, False, True, True]
        check(one, [9, 3])
        check(one, [150, 5, 1999, 3, *range(300, 900)])
        assert one.take(np.array([4])) == []


def test_parts_come_in_the_order_of_the_ids_and_a_row_only_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for ids in ([1, 2], [2, 3], [4]):
        cache.add(rows(ids))
    check(cache, [1, 2, 3, 4])
    assert cache.take(np.array([4, 3, 1]))[0]["source_id"].tolist() == [4]


def test_all_rows_of_an_id_stay_together(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.add(rows([7, 2, 7, 7]))
    (part,) = cache.take(np.array([7]))
    assert part["source_id"].tolist() == [7, 7, 7]


def test_the_same_rows_are_the_same_file(tmp_path: Path) -> None:
    one, two = Cache(tmp_path / "one"), Cache(tmp_path / "two")
    assert one.add(rows([3, 1, 2])) == two.add(rows([1, 2, 3]))
    (first,), (second,) = ([*folder.folder.glob("part-*")] for folder in (one, two))
    assert first.read_bytes() == second.read_bytes()


def test_small_parts_are_merged(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for one in range(1, 2 * module.MOST_SMALL):
        cache.add(rows([one, 1000 + one, 500]))
        cache.merge()
    assert len([*tmp_path.glob("part-*")]) <= module.MOST_SMALL
    every = [500, *(one + k for k in (0, 1000) for one in range(1, 2 * module.MOST_SMALL))]
    check(cache, every)
    check(Cache(tmp_path), every)


def test_a_reader_finds_what_is_merged_under_its_hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = Cache(tmp_path), Cache(tmp_path)
    monkeypatch.setattr(module, "MOST_SMALL", 3)
    for one in range(1, 5):
        writer.add(rows([one]))
    assert reader.has(np.array([1, 2, 3, 4])).all()
    places = reader._places

    def merged_meanwhile(ids: np.ndarray) -> np.ndarray:
        found = places(ids)
        writer.merge()
        return found

    monkeypatch.setattr(reader, "_places", merged_meanwhile)
    check(reader, [1, 2, 3, 4])


def test_ids_without_rows_are_asked_again_some_day(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    ids = np.array([3, 4, 12345678901])
    assert not cache.is_missing(ids).any()
    cache.add_missing(ids[1:])
    assert cache.is_missing(ids).tolist() == [False, True, True]
    old = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=module.MISSING_DAYS + 1)
    (tmp_path / "missing.csv").write_text(f"3,{old.isoformat()}\n4,{datetime.date.today().isoformat()}\n1234")
    # The last line is what a killed process left of one.
    Cache(tmp_path).add_missing(np.array([5]))
    assert cache.is_missing(np.array([3, 4, 1234, 12345, 5])).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_parts_are_told_and_removed(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    path = tmp_path / cache.add(rows([1, 2]))
    cache.add(rows([3]))
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "other": b"no HDF5 at all"}[damage])
    with pytest.warns(UserWarning, match="is damaged"):
        assert Cache(tmp_path).has(np.array([1, 2, 3])).tolist() == [False, False, True]
    assert not path.exists()


def test_flipped_bits_are_told(tmp_path: Path) -> None:
    """Wherever a bit is flipped: the same rows, or none and a warning; never other rows, an error or a crash."""
    cache = Cache(tmp_path)
    name = cache.add(rows([1, 2, 3]))
    path, random = tmp_path / name, np.random.default_rng(3)
    whole = path.read_bytes()
    for place in random.integers(len(whole), size=120):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = Cache(tmp_path).take(np.array([1, 2, 3]))
        if found:
            check_equal(found[0], [1, 2, 3])
        assert bool(found) != any("is damaged" in str(one.message) for one in caught)


def test_any_error_of_a_reader_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    cache.add(rows([1]))

    def broken(*arguments: object) -> None:
        raise TypeError("no numpy type for this")

    monkeypatch.setattr(module, "_rows", broken)
    with pytest.warns(UserWarning, match="is damaged"):
        assert not cache.has(np.array([1])).any()


def test_several_at_once(tmp_path: Path) -> None:
    def work(k: int) -> None:
        cache = Cache(tmp_path)
        for step in range(12):
            cache.add(rows([1 + 100 * k + step, 5000 + step]))
            cache.add_missing(np.array([100_000 + 100 * k + step]))
            cache.merge()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(Cache(tmp_path), [1 + 100 * k + step for k in range(4) for step in range(12)])
    missing = np.array([100_000 + 100 * k + step for k in range(4) for step in range(12)])
    assert Cache(tmp_path).is_missing(missing).all()


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XPJAX_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("XPJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "xpjax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "xpjax"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"cannot write .*file"):
        Cache(tmp_path / "file" / "cache")
