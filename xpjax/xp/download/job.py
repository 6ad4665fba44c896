"""Fetch spectra: ids to batches, batches to parts on disk, parts to one table or file.

Every batch that has come home lies in a cache (`cache`), in a folder beside the output where none is wanted. So a run
that ends in any way goes on where it was, and what is written depends on the ids and on the archive alone.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import hashlib
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from xpjax.core import archive as names
from xpjax.core.archive import Archive
from xpjax.core.errors import XpjaxError, say
from xpjax.core.ids import places_of
from xpjax.core.records import Record
from xpjax.core.release import Release, find_release
from xpjax.io.atomic import expanded
from xpjax.io.columns import join_columns
from xpjax.xp.download.cache import KEY, Cache, Columns, cache_root
from xpjax.xp.download.output import Output
from xpjax.xp.download.query import Found, find_sources, gaia_source as ask_gaia_source, login, source_columns
from xpjax.xp.download.request import Client, Unreachable
from xpjax.xp.download.spectra import Datalink
from xpjax.xp.read.archive import read
from xpjax.xp.sources import HEALPIX_LEVEL, HEALPIX_SHIFT, SourceTable, concatenate
from xpjax.xp.wanted import AnyIds, Cone, is_query, wanted_ids

AT_ONCE = 2
"""Requests for spectra at a time."""
MOST_AGAIN = 5
"""How often ids that lack in the answers are asked for again, at most: once, or more where many came then."""
PIXELS = 12 * 4**HEALPIX_LEVEL
"""Pixels of the sky that a source id may name."""


class Unfinished(ConnectionError):
    """Some batches have come home and others have not: the same call goes on."""


@dataclasses.dataclass(frozen=True)
class FetchProgress:
    """How far `fetch` is: sources of a stage (spectra, again, gaia_source) that are done, and all of them."""

    stage: str
    done: int
    total: int


@dataclasses.dataclass(frozen=True, repr=False)
class FetchReport(Record):
    """What `fetch` did.

    output: the file or store; asked: different ids; found: ids with spectra; without (n,): ids without them, which
    `without_file` names; repeated: ids that were given again; not_ids: cells that are no source ids, empty ones among
    them; cached: ids that needed no request; requests, bytes, seconds: what it took; notes: what else to know.
    """

    output: Path | None
    asked: int
    found: int
    without: np.ndarray
    without_file: Path | None
    repeated: int
    not_ids: int
    cached: int
    requests: int
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()


def fetch(
    wanted: AnyIds,
    *,
    release: Release | str = "DR3",
    product: str = "mean",
    output: str | os.PathLike[str] | None = None,
    column: str | None = None,
    gaia_source: bool = True,
    cache: bool | str | os.PathLike[str] = True,
    overwrite: bool = False,
    partial: bool = False,
    host: str | None = None,
    username: str | None = None,
    password: str | None = None,
    progress: Callable[[FetchProgress], object] | None = None,
) -> SourceTable | FetchReport:
    """Fetch XP coefficients from the Gaia archive, by source ids, by a query, or in a cone.

    Needs the network. What has come home is kept in a cache by source_id: a run that was stopped goes on when it is
    called again, and later ones ask for what is not there yet.

    Parameters
    ----------
    wanted : array of int, list, table, path, or str
        Source ids; a table with a column source_id, in memory or a file; a text file of one id a line; an ADQL query
        that selects source_id; or a cone, a tuple (ra, dec, radius) or (ra, dec, radius, gmax) [deg, mag].
    release : Release or str
        The data release, DR3 or DR4.
    product : str
        `mean` for mean spectra, or `epoch` for those of each transit, which DR4 has.
    output : path, optional
        A file, in the format of its suffix as for `xpjax.write`, or a store: one file (.h5), or without a suffix a
        folder, in the order of source_id. By default the sources are given back.
    column : str, optional
        The column of the source ids, where it has another name.
    gaia_source : bool
        Whether to fetch positions, proper motions, magnitudes and more of gaia_source, what the release has of it.
    cache : bool or path
        The folder of the cache, 14 kB a source; by default `archive` in XPJAX_CACHE or ~/.cache/xpjax. Remove it to
        empty the cache. False for none: what is done then lies beside the output until that is written.
    overwrite : bool
        Whether to replace an output that exists.
    partial : bool
        Whether to take the result of a query that the archive has cut.
    host, username, password : str, optional
        The address of another archive; an account there.
    progress : callable, optional
        Called after each batch with its stage, and the numbers of sources done and in all: `stage`, `done`, `total`.

    Returns
    -------
    SourceTable or FetchReport
        The sources in the order of the ids, each once; with an output a report, and ids without spectra are in
        `NAME_missing.csv` beside it.

    Raises
    ------
    XpjaxError
        If the call is wrong, the archive refuses it, or no source has spectra.
    ConnectionError
        If the archive does not answer. The same call goes on.

    Warns
    -----
    UserWarning
        Without an output, if sources have no spectra, or cells are no ids.

    Examples
    --------
    >>> def fetch_two():
    ...     return xpjax.fetch([4295806720, 38655544960])
    """
    archive = _archive(find_release(release), product)
    target = None if output is None else Output(expanded(output), overwrite)
    with _caches(target, cache, host or names.HOST, archive, product) as (spectra, sources):
        job = _Job(Client(host), archive, product, spectra, sources, progress)
        with contextlib.closing(job.client):
            if username and password:
                login(job.client, username, password)
            return job.run(job.ids(wanted, column, partial), target, gaia_source)


def _archive(release: Release, product: str) -> Archive:
    """The names of a release that has the product. Raises XpjaxError."""
    if product not in ("mean", "epoch"):
        raise XpjaxError(f"{say('product', '--product')} is {product!r}; expected mean or epoch")
    known = [one for one in names.ARCHIVES if one.release.name == release.name]
    if not known:
        raise XpjaxError(f"the archive's names of {release.name} are not known; expected one of "
                         f"{', '.join(one.label for one in names.ARCHIVES)}")  # fmt: skip
    if not getattr(known[0], product):
        others = ", ".join(one.label for one in names.ARCHIVES if getattr(one, product))
        raise XpjaxError(f"{known[0].label} has no {product} spectra, {others} has: {say('release=', '--release')}")
    return known[0]


@contextlib.contextmanager
def _caches(
    target: Output | None, cache: bool | str | os.PathLike[str], host: str, archive: Archive, product: str
) -> Iterator[tuple[Cache, Cache]]:
    """The cache of spectra and that of gaia_source; without a cache folders that are removed when all is done."""
    with contextlib.ExitStack() as stack:
        if cache is False and target is not None:
            root = target.path.with_name(f".{target.path.name}.fetch")
        elif cache is False:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xpjax-")))
        else:
            root = cache_root() / "archive" if cache is True else expanded(cache)
        # Columns that are wanted one day and not the next, and releases of one name and other sizes, lie apart.
        columns = hashlib.sha256(" ".join(names.SOURCE_COLUMNS).encode()).hexdigest()[:8]
        label = "_".join([*archive.label.split(), *map(str, archive.release.n_basis)])
        folder = root / (urlsplit(host).netloc or "host").replace(":", "_") / label
        yield Cache(folder / product), Cache(folder / f"gaia_source_{columns}")
        if cache is False:
            shutil.rmtree(root, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Different source ids (n,), how many were given again, and how many cells are none."""

    ids: np.ndarray
    repeated: int
    not_ids: int


def _warn(asked: _Asked, without: np.ndarray, notes: Sequence[str]) -> None:
    """Warn of what a table in memory does not tell."""
    told = list(notes)
    if len(without):
        listed = ", ".join(map(str, without[:5].tolist())) + (", ..." if len(without) > 5 else "")
        told.insert(0, f"{len(without):,} of {len(asked.ids):,} sources have no spectra in the archive: {listed}")
    if asked.not_ids:
        told.append(f"{asked.not_ids:,} cells are no source ids")
    for text in told:
        warnings.warn(text, stacklevel=4)


@dataclasses.dataclass
class _Job:
    """One call of `fetch`."""

    client: Client
    archive: Archive
    product: str
    spectra: Cache
    sources: Cache
    progress: Callable[[FetchProgress], object] | None

    def __post_init__(self) -> None:
        self.notes: list[str] = []
        self.home = False
        self.selected: Found | None = None

    def run(self, asked: _Asked, target: Output | None, gaia_source: bool) -> SourceTable | FetchReport:
        """All of it, once it is known what is asked for."""
        started, ids = time.perf_counter(), asked.ids
        cached = int(np.count_nonzero(self.spectra.has(ids)))
        found = self.fetch(ids)
        if gaia_source:
            self.fetch_gaia_source(found)
        self.spectra.merge()
        without = ids[~np.isin(ids, found)]
        notes = tuple(dict.fromkeys(self.notes))
        if target is None:
            _warn(asked, without, notes)
            return self.table(found, gaia_source)
        beside = target.write(found, without, lambda some: self.table(some, gaia_source))
        return FetchReport(
            target.path, len(ids), len(found), without, beside, asked.repeated, asked.not_ids, cached,
            self.client.n_request, self.client.n_byte, time.perf_counter() - started, notes,
        )  # fmt: skip

    def ids(self, wanted: Any, column: str | None, partial: bool) -> _Asked:
        """The source ids that are wanted. Raises XpjaxError where there are none."""
        if isinstance(wanted, tuple) and len(wanted) in (3, 4) and any(isinstance(one, float) for one in wanted):
            wanted = Cone(*wanted)
        if isinstance(wanted, Cone) or is_query(wanted):
            found = find_sources(wanted, self.client, self.archive, product=self.product, partial=partial)
            self.notes += found.notes
            ids = found.source_id
            if isinstance(wanted, Cone) and len(ids):
                self.sources.add({KEY: ids, **found.columns})
            elif len(ids):
                self.selected = found
        else:
            ids = wanted_ids(wanted, column=column, release=self.archive.release)
        good = (ids > 0) & (ids >> HEALPIX_SHIFT < PIXELS)
        if not good.any():
            raise XpjaxError(
                "the query or cone has no sources with spectra" if isinstance(wanted, Cone) or is_query(wanted)
                else f"no source ids among {len(ids):,} cells; give at least one"
            )  # fmt: skip
        _, first = np.unique(ids[good], return_index=True)
        return _Asked(ids[good][np.sort(first)], int(good.sum()) - len(first), int(len(ids) - good.sum()))

    # --- spectra

    def fetch(self, ids: np.ndarray) -> np.ndarray:
        """Bring the spectra of ids (n,) home; those that have some. Raises XpjaxError where none has."""
        link = Datalink(self.client, self.archive, self.product, self.spectra)
        left = ids[~(self.spectra.has(ids) | self.spectra.is_missing(ids))]

        def bring(batch: np.ndarray) -> None:
            for table in link.fetch(batch):
                columns = {**table.catalogue().columns, "xp_status": np.asarray(table.status)}
                self.spectra.add(columns)

        self._batches("spectra", left, bring)
        share = 1.0
        for k in range(MOST_AGAIN):
            left = left[~self.spectra.has(left)]
            self._batches("again", left, bring)
            came = int(np.count_nonzero(self.spectra.has(left)))
            # The archive left out this share; of those that came now it has probably left out as large a one again.
            share = share if k else came / len(ids)
            if came * share < 0.5:
                break
        left = left[~self.spectra.has(left)]
        self.spectra.add_missing(left)
        found = ids[self.spectra.has(ids)]
        if not len(found):
            listed = ", ".join(map(str, ids[:3].tolist())) + (", ..." if len(ids) > 3 else "")
            raise XpjaxError(
                f"the archive has no {self.product} spectra of these {len(ids):,} sources of {self.archive.label} "
                f"({listed}); check the ids and {say('release=', '--release')}"
            )
        return found

    def _batches(self, stage: str, ids: np.ndarray, bring: Callable[[np.ndarray], None]) -> None:
        """Some batches at a time; after one that fails no other is begun. Raises what it raised, or Unfinished."""
        waiting = [ids[start : start + names.MOST_IDS] for start in range(0, len(ids), names.MOST_IDS)][::-1]
        done = running = 0
        failure: BaseException | None = None

        def work(batch: np.ndarray) -> None:
            error: BaseException | None = None
            try:
                bring(batch)
            except BaseException as raised:  # raised below, by who waits
                error = raised
            self.client.inbox.put(lambda: end(len(batch), error))

        def end(n: int, error: BaseException | None) -> None:
            nonlocal done, running, failure
            running -= 1
            failure = failure or error
            done += 0 if error else n
            if not error and self.progress is not None:
                self.progress(FetchProgress(stage, done, len(ids)))

        while running or (waiting and failure is None):
            while waiting and failure is None and running < AT_ONCE:
                # A daemon: who interrupts the call does not wait for an answer. Messages stay those of who called.
                target = contextvars.copy_context().run
                threading.Thread(target=target, args=(work, waiting.pop()), daemon=True).start()
                running += 1
            self.client.inbox.get()()  # an answer is to be read, or a batch has ended
        self.home |= done > 0
        if failure is None:
            return
        if self.home and isinstance(failure, Unreachable | XpjaxError):
            what = "columns of gaia_source" if stage == "gaia_source" else "spectra"
            raise Unfinished(
                f"{what} of {done:,} of {len(ids):,} sources have come home, then: {failure}; the same "
                f"{say('call', 'command')} goes on from there"
            ) from failure
        raise failure

    # --- gaia_source

    def fetch_gaia_source(self, ids: np.ndarray) -> None:
        """Bring the columns of gaia_source home for these ids."""
        left = ids[~self.sources.has(ids)]
        known: list[Sequence[str]] = []

        def bring(batch: np.ndarray) -> None:
            if not known:  # asked for once, or by the first batches at the same time
                columns, notes = source_columns(self.client, self.archive)
                self.notes += notes
                known.append(columns)
            found = ask_gaia_source(batch, self.client, self.archive, columns=known[0])
            self.notes += found.notes
            self.sources.add({KEY: found.source_id, **found.columns})

        self._batches("gaia_source", left, bring)
        self.sources.merge()

    # --- out

    def table(self, ids: np.ndarray, gaia_source: bool) -> SourceTable:
        """The sources with these ids, in their order, from what is at home."""
        parts = [self._sources_of(columns) for columns in self._taken(self.spectra, ids, self.fetch)]
        whole = concatenate(parts, self.archive.label)
        place = places_of(whole.source_id, ids)
        order = np.lexsort((whole.transits["transit_id"], place) if whole.is_epoch else (place,))
        table = whole if (order == np.arange(len(order))).all() else whole[order]
        columns = {**table.columns, **(self._gaia(table) if gaia_source else {})}
        if self.selected is not None:
            taken = {*table[:0].catalogue().columns, *columns}
            place = places_of(table.source_id, self.selected.source_id)
            columns |= {name: cells[place] for name, cells in self.selected.columns.items() if name not in taken}
        return dataclasses.replace(table, columns=columns)

    @staticmethod
    def _taken(cache: Cache, ids: np.ndarray, bring: Callable[[np.ndarray], object]) -> list[Columns]:
        """The parts of a cache with these ids; what is damaged, or was removed meanwhile, is brought once more."""
        for last in (False, True):
            parts = cache.take(ids)
            left = ids[~np.isin(ids, np.concatenate([np.empty(0, np.int64), *(part[KEY] for part in parts)]))]
            if not len(left):
                break
            if last:
                raise XpjaxError(f"{cache.folder}: {len(left):,} sources were removed meanwhile; fetch again")
            bring(left)
        return parts

    def _sources_of(self, columns: Mapping[str, np.ndarray]) -> SourceTable:
        status = columns["xp_status"]
        table = read({n: c for n, c in columns.items() if n != "xp_status"}, release=self.archive.release)
        return dataclasses.replace(table, status=table.status | status)

    def _gaia(self, table: SourceTable) -> dict[str, np.ndarray]:
        """Columns of gaia_source for the rows of a table."""
        parts = self._taken(self.sources, np.unique(table.source_id), self.fetch_gaia_source)
        sizes = [len(part[KEY]) for part in parts]
        known = dict.fromkeys(name for part in parts for name in part if name != KEY)
        joined = {name: join_columns([part.get(name) for part in parts], sizes) for name in known}
        ids = np.concatenate([np.empty(0, np.int64), *(part[KEY] for part in parts)])
        place = places_of(table.source_id, ids)
        first = [name for name in names.SOURCE_COLUMNS if name in joined]
        return {name: joined[name][place] for name in dict.fromkeys([*first, *joined])}
