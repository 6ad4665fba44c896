"""`xpjax.fetch` from made archives in all moods: complete, in order, resumed, named."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpjax
from tests.archive.server import MadeArchive, Mood, Reply, Request, chance, error_page
from tests.archive.tap import Tap, gaia_source_of
from tests.xp.download.conftest import single
from xpjax import SourceTable, XpjaxError
from xpjax.core import archive as names
from xpjax.xp import Unfinished
from xpjax.xp.download.request import Refused, Unreachable

HOSTILE = Mood(busy=4, fail=0.15, cut=3, drop=0.06)


def fetch(*args: Any, **options: Any) -> Any:
    return xpjax.fetch(*args, **{"gaia_source": False, **options})


def shuffled(sources: SourceTable, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).permutation(sources.source_id)


def check(found: SourceTable, made: SourceTable, ids: np.ndarray) -> None:
    """The same sources to the bit, in the order of the ids."""
    assert np.array_equal(found.source_id, ids)
    rows = [int(np.flatnonzero(made.source_id == one)[0]) for one in ids]
    for name in ("value", "error", "correlation", "n_relevant"):
        here, there = (getattr(table.coefficients, name) for table in (found, made))
        assert (here is None) == (there is None), name
        if here is not None:
            assert here.dtype.kind == "i" or here.dtype == there.dtype, name
            assert np.array_equal(here, there[rows], equal_nan=True), name


@pytest.mark.parametrize(
    "mood",
    [
        Mood(),
        HOSTILE,
        Mood(refused=("RAW", "DATAMODEL_GAIA")),
        Mood(refused=("RAW", "INDIVIDUAL")),
        Mood(strings=True, zipped=False),
        Mood(most_ids=70, drop=0.1),
    ],
    ids=["calm", "hostile", "individual", "datamodel", "strings", "halved"],
)
def test_moods(made: SourceTable, mood: Mood) -> None:
    ids = shuffled(made)
    with MadeArchive(made, mood) as archive:
        check(fetch(ids, host=archive.url), made, ids)


def test_an_archive_without_text_is_read_as_votable(made: SourceTable) -> None:
    ids = shuffled(made)[:30]
    with MadeArchive(made, Mood()) as archive:

        def votable(request: Request) -> Reply:
            return error_page(500, "no csv today") if request.form["FORMAT"] == "csv" else archive.data(request)

        archive.routes["data-server/data"] = votable
        check(fetch(ids, host=archive.url), made, ids)


def test_requests_are_what_the_archive_expects(made: SourceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MOST_IDS", 100)
    with MadeArchive(made) as archive:
        fetch(made.source_id, host=archive.url)
    forms = [request.form for request in archive.requests]
    assert {(form["RETRIEVAL_TYPE"], form["DATA_STRUCTURE"], form["RELEASE"]) for form in forms} == {
        ("XP_CONTINUOUS", "RAW", "Gaia DR3")
    }
    assert max(len(form["ID"].split(",")) for form in forms) == 100
    assert {request.method for request in archive.requests} == {"POST"}


def test_ids_without_spectra_are_counted_and_named(made: SourceTable, tmp_path: Path) -> None:
    ids = shuffled(made)
    gone = [*ids[::40].tolist(), 5_000_000_000_000]
    asked = np.concatenate([ids, gone[-1:], ids[:7], [0, -4, 2**63 - 1]])
    with MadeArchive(made, Mood(without=gone, drop=0.1)) as archive:
        report = fetch(asked, host=archive.url, output=tmp_path / "xp.parquet")
        again = archive.asked
    assert (report.asked, report.found, report.repeated, report.not_ids) == (241, 234, 7, 3)
    assert sorted(report.without) == sorted(gone)
    named = xpjax.read_table(report.without_file)
    assert report.without_file == tmp_path / "xp_missing.csv"
    assert named["source_id"].tolist() == report.without.tolist()
    assert all(again[one] >= 2 for one in gone), "what lacked was not asked for again"
    assert max(again.values()) <= 4
    check(xpjax.read(tmp_path / "xp.parquet"), made, np.array([one for one in ids if one not in gone]))
    with MadeArchive(made, Mood(without=gone)) as archive, pytest.warns(UserWarning, match="7 of 241 sources have no"):
        assert len(fetch(asked[:-3], host=archive.url, cache=False)) == 234


def test_what_is_left_out_twice_is_asked_for_again(made: SourceTable) -> None:
    with MadeArchive(made) as archive:

        def careless(request: Request) -> Reply:
            ids = [int(one) for one in request.form["ID"].split(",")]
            late = [one for one in ids if chance(4, 8 * one + archive.asked[one]) < 0.15]
            archive.asked.update(late)
            few = {**request.form, "ID": ",".join(str(one) for one in ids if one not in late) or "1"}
            return archive.data(dataclasses.replace(request, form=few))

        archive.routes["data-server/data"] = careless
        check(fetch(made.source_id, host=archive.url), made, made.source_id)


def test_the_cache_is_used_by_the_next_run(made: SourceTable) -> None:
    ids = shuffled(made)
    gone = ids[3:5].tolist()
    with MadeArchive(made, Mood(without=gone)) as archive:
        with pytest.warns(UserWarning, match="2 of 200 sources have no spectra"):
            first = fetch(ids[:200], host=archive.url)
        asked = Counter(archive.asked)
        with pytest.warns(UserWarning, match="2 of 240 sources have no spectra"):
            second = fetch(ids, host=archive.url)
        assert {*(archive.asked - asked)} == {*ids[200:].tolist()}
        archive.asked.clear()
        fetch(ids[5:30], host=archive.url)
        assert not archive.asked
        fetch(ids[5:30], host=archive.url, cache=False)
        assert archive.asked
    check(first, made, np.delete(ids[:200], [3, 4]))
    check(second, made, np.delete(ids, [3, 4]))


def test_a_server_of_another_name_has_a_cache_of_its_own(made: SourceTable) -> None:
    other = dataclasses.replace(made, coefficients=made[::-1].coefficients)
    ids = made.source_id[:20]
    with MadeArchive(made) as one, MadeArchive(other) as two:
        check(fetch(ids, host=one.url), made, ids)
        check(fetch(ids, host=two.url), other, ids)


def test_a_damaged_part_is_fetched_again(made: SourceTable, tmp_path: Path) -> None:
    ids = made.source_id[:100]
    with MadeArchive(made) as archive:
        fetch(ids, host=archive.url, cache=tmp_path / "own")
        (part,) = (one for one in (tmp_path / "own").rglob("part-*.h5") if one.stat().st_size > 100_000)
        data = bytearray(part.read_bytes())
        data[data.index(made.coefficients.value[7, :3].tobytes()) + 5] ^= 4
        part.write_bytes(data)
        with pytest.warns(UserWarning, match="is damaged"):
            check(fetch(ids, host=archive.url, cache=tmp_path / "own"), made, ids)


@pytest.mark.parametrize("name", ["xp.parquet", "xp.csv", "xp.fits", "xp.h5", "store"])
def test_every_output_reads_back(made: SourceTable, tmp_path: Path, name: str) -> None:
    ids = shuffled(made)[:60]
    with MadeArchive(made, HOSTILE) as archive:
        report = fetch(ids, host=archive.url, output=tmp_path / name)
        assert (report.found, report.without_file) == (60, None)
        with pytest.raises(FileExistsError):
            fetch(ids, host=archive.url, output=tmp_path / name)
        fetch(ids[::-1], host=archive.url, output=tmp_path / name, overwrite=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["cache", name])
    back = xpjax.read(tmp_path / name)
    wanted = np.sort(ids) if name == "store" else ids[::-1]
    assert np.array_equal(back.source_id, wanted)
    rows = [int(np.flatnonzero(made.source_id == one)[0]) for one in wanted]
    value = made.coefficients.value[rows]
    single = name in ("xp.h5", "store")
    assert np.array_equal(back.coefficients.value, value.astype(np.float32) if single else value)
    assert np.array_equal(back.coefficients.correlation.astype(np.float32), made.coefficients.correlation[rows])


def test_files_of_a_store_follow_the_sky(made: SourceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpjax.xp.download.output.STORE_FILE", 100)
    with MadeArchive(made) as archive:
        fetch(shuffled(made), host=archive.url, output=tmp_path / "store")
    store = xpjax.open_store(tmp_path / "store")
    assert [len(file) for file in store.files] == [100, 100, 40]
    check(store.read(), narrow(made), np.sort(made.source_id))


def narrow(sources: SourceTable) -> SourceTable:
    c = sources.coefficients
    return dataclasses.replace(sources, coefficients=dataclasses.replace(c, value=c.value.astype(np.float32)))


def test_missing_photometers_and_columns_come_through(made: SourceTable) -> None:
    value, error, correlation = (getattr(made.coefficients, n).copy() for n in ("value", "error", "correlation"))
    for array, block in ((value, slice(0, 55)), (error, slice(0, 55)), (correlation, slice(0, 1485))):
        array[3, block] = np.nan
    c = dataclasses.replace(made.coefficients, value=value, error=error, correlation=correlation)
    table = dataclasses.replace(made, coefficients=c)
    with MadeArchive(table[:20]) as archive:
        found = fetch(table.source_id[:20], host=archive.url)
    assert np.isnan(found.coefficients.value[3, :55]).all()
    assert np.isfinite(found.coefficients.value[3, 55:]).all()
    assert (found.status != 0).tolist() == [k == 3 for k in range(20)]
    assert np.array_equal(found.columns["ra"], table.columns["ra"][:20])


def test_the_next_release(tmp_path: Path) -> None:
    made = single(xpjax.simulate_sources(30, seed=2, release=names.DR4, dtype=np.float64))
    with MadeArchive(made, Mood(refused=("MEAN_SPECTRUM_XP", "RAW")), "Gaia DR4") as archive:
        found = fetch(made.source_id, release="DR4", host=archive.url)
        check(found, made, made.source_id)
        assert found.release == names.DR4
        # Spectra of other lengths than the release has are refused, never taken for its own.
        with pytest.raises(XpjaxError, match="Gaia DR3"):
            fetch(made.source_id, release="DR3", host=archive.url)
    other = single(xpjax.simulate_sources(30, seed=2, dtype=np.float64))
    with MadeArchive(other, release="Gaia DR4") as archive, pytest.raises(Refused, match="55"):
        fetch(made.source_id, release="DR4", host=archive.url)
    assert max(len(request.form["ID"].split(",")) for request in archive.requests) == 5, "much was asked for in vain"


@pytest.mark.parametrize("structure", ["RAW", "INDIVIDUAL"])
def test_real_spectra_are_those_of_the_file(shared: Callable[[str], Path], structure: str) -> None:
    """The archive's own text, served again: what comes home is what `xpjax.read` makes of the file."""
    path = shared("xp/formats/XP_CONTINUOUS_RAW.csv")
    real = xpjax.read(path)
    header, *lines = path.read_bytes().splitlines(keepends=True)
    place = header.decode().strip().split(",").index("source_id")
    with MadeArchive(real, Mood(refused={"RAW", "INDIVIDUAL"} - {structure}, drop=0.3)) as archive:
        archive.lines = header, {int(line.split(b",", place + 1)[place]): line for line in lines}
        found = fetch(real.source_id[::-1], host=archive.url)
    check(found, single(real), real.source_id[::-1])
    assert {*found.columns} == {*real.columns}
    for name, column in found.columns.items():
        assert np.array_equal(column, real.columns[name][::-1], equal_nan=column.dtype.kind == "f"), name


def test_epoch_spectra(tmp_path: Path) -> None:
    made = single(xpjax.simulate_sources(12, seed=2, release=names.DR4, dtype=np.float64, transits=5))
    made = made[np.random.default_rng(1).permutation(len(made))]
    ids = np.unique(made.source_id)[::-1]
    mood = Mood(refused=("EPOCH_SPECTRUM_XP",), drop=0.2, without=ids[:1].tolist())
    with MadeArchive(made, mood, "Gaia DR4") as archive:
        options: dict[str, Any] = {"release": "DR4", "product": "epoch", "host": archive.url}
        with pytest.warns(UserWarning, match="1 of 12 sources have no spectra"):
            found = fetch(ids, **options)
        fetch(ids, output=tmp_path / "epochs.parquet", **options)
    assert found.is_epoch
    rank = np.searchsorted(-ids, -made.source_id)
    wanted = made[np.lexsort((made.columns["transit_id"], rank))]
    wanted = wanted[wanted.source_id != ids[0]]
    for table in (found, xpjax.read(tmp_path / "epochs.parquet")):
        assert np.array_equal(table.source_id, wanted.source_id)
        for name in ("transit_id", "time"):
            assert np.array_equal(table.columns[name], wanted.columns[name])
        for name in ("value", "error", "correlation"):
            here, there = (getattr(one.coefficients, name) for one in (table, wanted))
            assert np.array_equal(here, there, equal_nan=True), name


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_wrong_calls_ask_nothing(made: SourceTable, tmp_path: Path) -> None:
    with MadeArchive(made) as archive:
        for match, options in (
            ("no epoch spectra", {"product": "epoch"}),
            ("expected mean or epoch", {"product": "low"}),
            ("unknown release", {"release": "DR9"}),
            ("suffix", {"output": tmp_path / "xp.doc"}),
        ):
            with pytest.raises(XpjaxError, match=match):
                fetch(made.source_id, host=archive.url, **options)
        with pytest.raises(XpjaxError, match="no source ids among 2 cells"):
            fetch([0, 0], host=archive.url)
        with pytest.raises(XpjaxError, match="float64"):
            fetch(made.source_id.astype(float), host=archive.url)
        with pytest.raises(XpjaxError, match="no address"):
            fetch(made.source_id, host="gea.esac.esa.int")
        assert not archive.requests


@pytest.mark.parametrize("empty", ["zip", "nothing", "header"])
def test_sources_that_have_no_spectra_at_all(made: SourceTable, empty: str) -> None:
    wanted = r"no mean spectra of these 2 sources of Gaia DR3 \(7, 8\)"
    with MadeArchive(made, Mood(empty=empty)) as archive, pytest.raises(XpjaxError, match=wanted):
        fetch([7, 8], host=archive.url)


def test_a_silent_answer_to_an_unknown_spelling_is_not_believed(made: SourceTable) -> None:
    with MadeArchive(made) as archive:

        def silent(request: Request) -> Reply:
            return archive.data(request) if request.form["DATA_STRUCTURE"] == "INDIVIDUAL" else Reply(b"")

        archive.routes["data-server/data"] = silent
        check(fetch(made.source_id[:50], host=archive.url), made, made.source_id[:50])


def test_no_network() -> None:
    with pytest.raises(Unreachable, match=r"no answer from http://127.0.0.1:9 .*HTTPS_PROXY.*host=.*by hand"):
        fetch([4295806720], host="http://127.0.0.1:9")


def test_the_archive_refuses_in_its_own_words(made: SourceTable) -> None:
    with MadeArchive(made) as archive:
        archive.routes["data-server/data"] = lambda request: error_page(401, "You are not allowed")
        with pytest.raises(Refused, match="You are not allowed"):
            fetch(made.source_id, host=archive.url)


def test_a_run_that_breaks_off_goes_on(made: SourceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MOST_IDS", 30)
    monkeypatch.setattr("xpjax.xp.download.spectra.FEWEST", 30)
    ids, output = shuffled(made), tmp_path / "xp.parquet"
    with MadeArchive(made) as archive:

        def worse(request: Request) -> Reply:
            return archive.data(request) if archive.n_data < 5 else error_page(500, "Cannot process request")

        archive.routes["data-server/data"] = worse
        with pytest.raises(Unfinished, match=r"of 240 sources have come home, then: .*Cannot process.* goes on"):
            fetch(ids, host=archive.url, output=output, cache=False)
        assert not output.exists()
        archive.routes["data-server/data"] = archive.data
        archive.asked.clear()
        fetch(ids, host=archive.url, output=output, cache=False)
        assert sum(archive.asked.values()) < 200
    check(xpjax.read(output), made, ids)
    assert [path.name for path in tmp_path.iterdir()] == ["xp.parquet"]


# --- what it must show ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_come_home_from_a_hostile_archive(tmp_path: Path) -> None:
    """20,000 ids: requests are limited, fail, break off, lack rows, and one spelling is refused."""
    made = single(xpjax.simulate_sources(20_000, seed=3, correlations=False, dtype=np.float64))
    ids = shuffled(made)
    gone = ids[::200].tolist()
    mood = Mood(busy=4, fail=0.2, cut=3, drop=0.05, without=gone, refused=("RAW", "DATAMODEL_GAIA"))
    with MadeArchive(made, mood) as archive:
        report = fetch(ids, host=archive.url, output=tmp_path / "xp.parquet")
    assert archive.statuses.keys() >= {200, 429, 500}
    assert (report.found, report.without.tolist()) == (19_900, gone)
    assert xpjax.read_table(tmp_path / "xp_missing.csv")["source_id"].tolist() == gone
    back = xpjax.read(tmp_path / "xp.parquet")
    order = np.argsort(made.source_id)
    rows = order[np.searchsorted(made.source_id, back.source_id, sorter=order)]
    assert np.array_equal(back.source_id, ids[~np.isin(ids, gone)])
    for name in ("value", "error", "n_relevant"):
        assert np.array_equal(getattr(back.coefficients, name), getattr(made.coefficients, name)[rows]), name


def running(child: int) -> bool:
    """Whether a process has neither ended nor been waited for."""
    try:
        return Path(f"/proc/{child}/stat").read_text().split(")")[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclasses.dataclass
class Killer:
    """Fetches in children, which may be killed. `asked`: ids that the last one asked for, again and again."""

    process: subprocess.Popen[str]
    archive: MadeArchive
    asked: int = 0

    def run(self, options: dict[str, Any], after: int | None = None, delay: float = 0.0) -> int:
        """The exit status of a child; after: requests after which it is killed, so many seconds later."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.archive.asked.clear()
        first = len(self.archive.requests)
        self.process.stdin.write(json.dumps(options) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if after is not None:
            while len(self.archive.requests) - first < after and running(child):
                time.sleep(0.001)
            time.sleep(delay)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        code = int(self.process.stdout.readline())
        self.asked = sum(self.archive.asked.values())
        return code


@pytest.fixture
def killer() -> Iterator[Killer]:
    made = single(xpjax.simulate_sources(120, seed=12, correlations=False, dtype=np.float64))
    mood = Mood(busy=6, fail=0.1, cut=5, drop=0.1, without=made.source_id[::30].tolist(), slow=0.005)
    command = [sys.executable, "-m", "tests.archive.killed"]
    with (
        MadeArchive(made, mood) as archive,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        yield Killer(process, archive)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path, killer: Killer) -> None:
    """kill -9 at 20 moments, each followed by a new start: the same file to the bit, and less to ask for."""
    ids = shuffled(killer.archive.sources)
    np.save(tmp_path / "ids.npy", ids)

    def order(k: int) -> dict[str, Any]:
        folder = tmp_path / str(k)
        folder.mkdir(exist_ok=True)
        # Half of them without a cache: then what is done lies beside the output.
        options = {"host": killer.archive.url, "output": str(folder / "xp.parquet")}
        options["cache"] = False if k % 2 else str(folder / "cache")
        return {"options": options, "file": str(tmp_path / "ids.npy"), "most_ids": 20}

    def result(k: int) -> list[bytes]:
        return [(tmp_path / str(k) / name).read_bytes() for name in ("xp.parquet", "xp_missing.csv")]

    assert killer.run(order(0)) == 0
    n, n_request, whole, killed, again = killer.asked, len(killer.archive.requests), result(0), 0, []
    rng = np.random.default_rng(7)
    for k in range(1, 21):
        after = 1 + (k - 1) * n_request // 20
        delay = rng.uniform(0, 0.2 if k > 18 else 0.03)  # the last ones while the output is made
        killed += killer.run(order(k), after, delay) == -signal.SIGKILL
        if not (tmp_path / str(k) / "xp.parquet").exists():
            assert killer.run(order(k)) == 0
            again.append(killer.asked)
        assert result(k) == whole, k
        assert {path.name for path in (tmp_path / str(k)).iterdir()} - {"cache"} == {"xp.parquet", "xp_missing.csv"}
    assert killed >= 15, killed
    assert np.mean(again[-6:]) < 0.7 * n < 0.8 * np.mean(again[:6]), f"new starts began all over again: {n}, {again}"


def test_filters_of_warnings_are_set_by_one_thread_alone(made: SourceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads share them: what two set at once stays wrong, and the warning of lacking sources is lost."""
    monkeypatch.setattr(names, "MOST_IDS", 7)
    some = made[:60]
    without = some.source_id[-5:].tolist()
    here, enter = threading.get_ident(), warnings.catch_warnings.__enter__
    strays = []

    def watched(self: Any) -> Any:
        stack = traceback.extract_stack()
        if threading.get_ident() != here and any(frame.filename.endswith("download/job.py") for frame in stack):
            strays.append("".join(traceback.format_list(stack)))
        return enter(self)

    monkeypatch.setattr(warnings.catch_warnings, "__enter__", watched)
    mood, tap = Mood(without=without), Tap({"gaiadr3.gaia_source": gaia_source_of(some, without)})
    with MadeArchive(some, mood, tap=tap) as archive:

        def votable(request: Request) -> Reply:
            return error_page(500, "no csv today") if request.form["FORMAT"] == "csv" else archive.data(request)

        archive.routes["data-server/data"] = votable
        # The made archive's threads set filters too, of astropy's: what is told is seen before any of them.
        told: list[str] = []
        monkeypatch.setattr(warnings, "warn", lambda message, *_, **__: told.append(str(message)))
        found = fetch(some.source_id, host=archive.url, gaia_source=True)
    assert len(found) == 55
    assert any("5 of 60 sources have no spectra" in one for one in told)
    assert not strays, strays[0]
