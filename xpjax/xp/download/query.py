"""Queries of the archive (TAP): the sources of a cone or of ADQL, and columns of gaia_source for ids.

Small answers are asked for in one request, whose rows the archive limits; all others are jobs, which are waited for.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from xpjax.core.archive import MOST_JOB_ROWS, MOST_ROWS, SOURCE_COLUMNS, Archive
from xpjax.core.errors import XpjaxError, say
from xpjax.core.ids import places_of
from xpjax.io.tables import Table, open_table
from xpjax.xp.download.request import Client, Refused
from xpjax.xp.wanted import Cone, id_column

FIRST_PAUSE, LONGEST_PAUSE, LONGEST_JOB = 0.1, 5.0, 2 * 3600.0
"""Pauses between looks at a job, growing, and when a job is given up [s]: the archive ends jobs after 90 minutes."""


@dataclasses.dataclass(frozen=True)
class Found:
    """Sources that a query found: source_id (n,) int64, columns (n, ...) by name, and remarks for whoever reports."""

    source_id: np.ndarray
    columns: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.source_id)


# --- what is asked ----------------------------------------------------------------------------------------------------


def cone_query(cone: Cone, archive: Archive, columns: Sequence[str], has: str | None) -> str:
    """The ADQL of a cone; has: the column that tells which sources have spectra."""
    place = ", ".join(repr(float(number)) for number in (cone.ra, cone.dec, cone.radius))
    conditions = [f"1 = CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', {place}))"]
    conditions += [f"{has} = 'True'"] * (has is not None)
    conditions += [] if cone.gmax is None else [f"phot_g_mean_mag <= {float(cone.gmax)!r}"]
    return f"SELECT {', '.join(['source_id', *columns])} FROM {archive.table} WHERE {' AND '.join(conditions)}"


def ids_query(ids: np.ndarray, archive: Archive, columns: Sequence[str]) -> str:
    """The ADQL of the rows of gaia_source with these ids."""
    listed = ", ".join(map(str, ids.tolist()))
    return f"SELECT {', '.join(['source_id', *columns])} FROM {archive.table} WHERE source_id IN ({listed})"


def known_columns(client: Client, archive: Archive) -> set[str]:
    """The columns that gaia_source of a release has, in lower case: as the archive tells, or those of its first row."""
    schema = f"SELECT column_name FROM tap_schema.columns WHERE table_name = '{archive.table}'"
    try:
        table = run_query(client, schema, small=True)
        names = {name.strip('"').lower() for name in table.column("column_name").texts().tolist()}
    except Refused:
        names = set()
    if not names:
        names = {name.lower() for name in run_query(client, f"SELECT TOP 1 * FROM {archive.table}", small=True).names}
    return names


def source_columns(client: Client, archive: Archive) -> tuple[list[str], list[str]]:
    """The columns of `core.archive.SOURCE_COLUMNS` that a release has, and a remark on those that it has not."""
    known = known_columns(client, archive)
    columns = [name for name in SOURCE_COLUMNS if name in known]
    return columns, _lacking(archive, columns)


# --- what comes back --------------------------------------------------------------------------------------------------


def find_sources(
    wanted: str | Cone, client: Client, archive: Archive, *, product: str = "mean", partial: bool = False
) -> Found:
    """The sources of an ADQL query, with the columns that it selects, or of a cone, with those of gaia_source.

    A query has a column source_id; sources stand in its order, those of a cone by their ids, and only such as have
    spectra of the product (mean, epoch) where the release tells. partial: take a result that the archive has cut.
    Raises XpjaxError.
    """
    notes: list[str] = []
    if isinstance(wanted, Cone):
        known = known_columns(client, archive)
        has = next((name for name in getattr(archive, f"has_{product}") if name in known), None)
        if has is None:
            notes.append(f"{archive.table} does not tell which sources have spectra: all of the cone are asked for")
        wanted_columns = [name for name in SOURCE_COLUMNS if name in known]
        notes += _lacking(archive, wanted_columns)
        table = run_query(client, cone_query(wanted, archive, wanted_columns, has), partial=partial)
        found = _found(table, "the cone")
        order = np.argsort(found.source_id, kind="stable")
        columns = {name: column[order] for name, column in found.columns.items()}
        return Found(found.source_id[order], columns, (*notes, *found.notes))
    found = _found(run_query(client, wanted, partial=partial), "the query")
    return dataclasses.replace(found, notes=(*notes, *found.notes))


def gaia_source(
    ids: np.ndarray,
    client: Client,
    archive: Archive,
    *,
    columns: Sequence[str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Found:
    """Columns of gaia_source for ids (n,), row by row; NaN, empty or 0 where the release has no such source.

    columns: which, by default those of `core.archive.SOURCE_COLUMNS` that the release has. Raises XpjaxError.
    """
    notes: list[str] = []
    if columns is None:
        columns, notes = source_columns(client, archive)
    ids = np.asarray(ids, np.int64)
    unique = np.unique(ids[ids > 0])
    parts = []
    for start in range(0, max(len(unique), 1), MOST_ROWS):
        some = unique[start : start + MOST_ROWS]
        query = ids_query(some if len(some) else np.array([0]), archive, columns)
        parts.append(_found(run_query(client, query, small=True), "gaia_source"))
        if progress is not None:
            progress(min(start + MOST_ROWS, len(unique)))
    found_ids = np.concatenate([part.source_id for part in parts])
    place = places_of(ids, found_ids)
    out = {}
    for name in parts[0].columns:
        whole = np.concatenate([part.columns[name] for part in parts])
        out[name] = _placed(whole, place)
    unknown = int(np.count_nonzero(place < 0))
    if unknown:
        notes.append(f"{unknown:,} of {len(ids):,} sources are not in {archive.table}: their columns are empty")
    return Found(ids, out, tuple(dict.fromkeys([*notes, *itertools.chain(*(part.notes for part in parts))])))


def _lacking(archive: Archive, columns: Sequence[str]) -> list[str]:
    """A remark on columns that the release does not have."""
    lacking = [name for name in SOURCE_COLUMNS if name not in columns]
    return [f"{archive.table} has no {', '.join(lacking)}: left out"] if lacking else []


def _found(table: Table, what: str) -> Found:
    """The ids of a result and its other columns, in the types that suit them. Raises XpjaxError without ids."""
    name = id_column(table.names, what)
    ids = table.column(name).ids()
    if ids.value.dtype.kind not in "iu":
        raise XpjaxError(f"{what} gives text in {name!r}, expected source ids")
    columns = {other.lower(): table.column(other).plain() for other in table.names if other != name}
    keep = ~ids.missing
    return Found(ids.value[keep], {n: column[keep] for n, column in columns.items()}, tuple(table.notes))


def _placed(column: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Rows of a column by their places, missing where there is none."""
    if not len(column):
        return np.full(len(place), np.nan, column.dtype if column.dtype.kind == "f" else float)
    out = column[place]
    gone = place < 0
    if gone.any():
        if out.dtype.kind == "U":
            out[gone] = ""
        elif out.dtype.kind == "f":
            out[gone] = np.nan
        elif out.dtype.kind == "b":
            out = np.where(gone, np.nan, out.astype(np.float32))
        else:
            out = np.where(gone, 0, out)
    return out


# --- how it is asked --------------------------------------------------------------------------------------------------


def run_query(client: Client, adql: str, *, small: bool = False, partial: bool = False) -> Table:
    """The result of a query; small: of few rows, in one request, else by a job.

    Raises Refused with the archive's own words for a query that it does not take, and XpjaxError for a result that it
    has cut, unless a partial one will do.
    """
    form = {"REQUEST": "doQuery", "LANG": "ADQL", "FORMAT": "votable", "QUERY": adql}
    body = client.post("tap-server/tap/sync", form).body if small else _job(client, {**form, "PHASE": "RUN"})
    table = client.at_home(lambda: _table(body, client.host))
    if str(table.header.get("QUERY_STATUS", "")).upper() == "OVERFLOW" or len(table) == MOST_JOB_ROWS:
        said = f"the archive has cut the result of the query after {len(table):,} rows"
        if not partial:
            raise XpjaxError(
                f"{said}; narrow it (a smaller cone, a brighter limit, parts of the sky), log in with "
                f"{say('username=', '--username')}, or take what there is with {say('partial=True', '--partial')}"
            )
        table.notes[:] = [said]
    return table


def _table(body: bytes, host: str) -> Table:
    """The VOTable of an answer, all of it in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.vot"
        path.write_bytes(body)
        try:
            table = open_table(path)
            table.load(table.names)
        except XpjaxError as error:
            raise XpjaxError(f"{host} answers with what is no table: {error}".replace(str(path), "result")) from error
    table.origin = "the result of the query"
    return table


def _job(client: Client, form: Mapping[str, str]) -> bytes:
    """The result of a query that runs as a job of the archive (UWS): started, looked at, fetched."""
    where = client.post("tap-server/tap/async", form).url.split("?")[0].rstrip("/")
    job = where[where.index("/tap-server/") + 1 :] if "/tap-server/" in where else ""
    if not job.rpartition("/async/")[2]:
        raise XpjaxError(f"{client.host} started no job for the query, but answered from {where}; try again later")
    for _ in _pauses():
        phase = client.get(f"{job}/phase").body.decode("utf-8", "replace").strip().upper()
        if phase == "COMPLETED":
            return client.get(f"{job}/results/result").body
        if phase in ("ERROR", "ABORTED"):
            said = _job_error(client, job) if phase == "ERROR" else "the job was aborted"
            raise Refused(f"{client.host} could not run the query: {said}; mend the query, or ask for less")
    raise XpjaxError(f"the query still runs after {LONGEST_JOB / 3600:.0f} h ({job}); ask for less")


def _job_error(client: Client, job: str) -> str:
    """Why a job has failed, in the archive's words."""
    try:
        return client.error_text(client.get(f"{job}/error").body)
    except Refused as error:  # a document of an error, be it the one that is asked for
        return str(error)


def _pauses() -> Iterator[None]:
    """Looks at a job, with growing pauses between them, until it is given up."""
    ends, pause = time.monotonic() + LONGEST_JOB, FIRST_PAUSE
    while time.monotonic() < ends:
        yield None
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE)


def login(client: Client, username: str, password: str) -> None:
    """Log in for queries and for spectra: the archive's cookies stay with the client. Raises XpjaxError."""
    for server in ("tap-server", "data-server"):
        try:
            client.post(f"{server}/login", {"username": username, "password": password})
        except Refused as error:
            raise XpjaxError(f"the login of {username!r} failed: {error}; check name and password") from None
