"""TAP of the made archive: queries in SQLite, answered at once or as jobs, as VOTables; logins with cookies.

SQLite takes what is plain SQL in ADQL; TOP, cones and names of schemas are translated.
"""

from __future__ import annotations

import dataclasses
import gzip
import html
import io
import re
import sqlite3
import threading
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from xpjax import SourceTable

_CONE = re.compile(
    r"1\s*=\s*CONTAINS\(\s*POINT\('ICRS',\s*ra,\s*dec\),\s*CIRCLE\('ICRS',\s*([^,]+),\s*([^,]+),\s*([^)]+)\)\)", re.I
)
_TOP = re.compile(r"^(\s*SELECT)\s+TOP\s+(\d+)", re.I)
_KINDS = {"f": "REAL", "i": "INTEGER", "u": "INTEGER", "b": "TEXT", "U": "TEXT"}


@dataclasses.dataclass(frozen=True)
class Reply:
    """Status, headers and body of an answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Job:
    """A query that runs until it was looked at a few times."""

    query: str
    looks: int = 0


class Tap:
    """Tables by their full names, as `gaiadr3.gaia_source`: columns (n,) by name, booleans as 'True' and 'False'.

    most_rows: rows of a result before it is cut; schema: whether tap_schema knows the tables; user: name and password.
    `said` has every query.
    """

    def __init__(
        self,
        tables: Mapping[str, Mapping[str, np.ndarray]],
        *,
        most_rows: int | None = None,
        schema: bool = True,
        user: tuple[str, str] = ("me", "secret"),
    ) -> None:
        self.most_rows, self.user = most_rows, user
        self.said: list[str] = []
        self.logins: list[str] = []
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._types: dict[str, np.dtype] = {}
        self._base = sqlite3.connect(":memory:", check_same_thread=False)
        self._base.create_function("in_cone", 5, _in_cone, deterministic=True)
        self._base.execute("ATTACH ':memory:' AS tap_schema")
        self._base.execute("CREATE TABLE tap_schema.columns (table_name TEXT, column_name TEXT)")
        for name, columns in tables.items():
            self._fill(name, columns)
            if schema:
                rows = [(name, column) for column in columns]
                self._base.executemany("INSERT INTO tap_schema.columns VALUES (?, ?)", rows)

    def _fill(self, name: str, columns: Mapping[str, np.ndarray]) -> None:
        space = name.partition(".")[0]
        self._base.execute(f"ATTACH ':memory:' AS {space}")
        declared = ", ".join(f"{column} {_KINDS[np.asarray(cells).dtype.kind]}" for column, cells in columns.items())
        self._base.execute(f"CREATE TABLE {name} ({declared})")
        cells = []
        for column, values in columns.items():
            array = np.asarray(values)
            self._types[column.lower()] = np.dtype("U5") if array.dtype.kind == "b" else array.dtype
            cells.append(_texts(array) if array.dtype.kind == "b" else array.tolist())
        cells = [[None if cell != cell else cell for cell in column] for column in cells]
        marks = ", ".join("?" * len(columns))
        self._base.executemany(f"INSERT INTO {name} VALUES ({marks})", zip(*cells, strict=True))

    def answer(self, method: str, path: str, form: Mapping[str, str], host: str) -> Reply | None:
        """What `METHOD path` with a form is answered, None for a path that is not of TAP; host: for redirections."""
        if path.endswith("/login"):
            return self._login(path, form)
        if path == "/tap-server/tap/sync":
            return self._result(form.get("QUERY", ""))
        if path == "/tap-server/tap/async" and method == "POST":
            with self._lock:
                name = f"{1000 + len(self._jobs)}O"
                self._jobs[name] = Job(form.get("QUERY", ""))
            return Reply(303, headers={"Location": f"{host}/tap-server/tap/async/{name}"})
        match = re.fullmatch(r"/tap-server/tap/async/(\w+)(/.*)?", path)
        if match is None or match[1] not in self._jobs:
            return None
        job = self._jobs[match[1]]
        if match[2] == "/phase":
            job.looks += 1
            if job.looks < 3:
                return Reply(200, (b"QUEUED", b"EXECUTING")[job.looks - 1])
            return Reply(200, b"COMPLETED" if self._result(job.query).status == 200 else b"ERROR")
        if match[2] == "/results/result":
            return self._result(job.query)
        if match[2] == "/error":
            return dataclasses.replace(self._result(job.query), status=200)
        return Reply(200, b"<uws:job/>")

    def _login(self, path: str, form: Mapping[str, str]) -> Reply:
        if (form.get("USERNAME"), form.get("PASSWORD")) != self.user:
            return Reply(401, b"<html><body><h1>HTTP Status 401 - Bad credentials</h1></body></html>")
        self.logins.append(path)
        return Reply(200, b"OK", {"Set-Cookie": "JSESSIONID=made; Path=/"})

    def _result(self, query: str) -> Reply:
        self.said.append(query)
        sql = _CONE.sub(r"in_cone(ra, dec, \1, \2, \3)", query)
        if top := _TOP.match(sql):
            sql = _TOP.sub(r"\1", sql) + f" LIMIT {top[2]}"
        try:
            with self._lock:
                cursor = self._base.execute(sql)
                rows = cursor.fetchall()
                names = [item[0] for item in cursor.description]
        except sqlite3.Error as error:
            return Reply(400, _refusal(f"Cannot parse query {query!r}: {error}"))
        cut = self.most_rows is not None and len(rows) > self.most_rows and "tap_schema" not in query
        rows = rows[: self.most_rows] if cut else rows
        return Reply(200, self._votable(names, rows, cut), {"Content-Type": "application/x-votable+xml"})

    def _votable(self, names: list[str], rows: list[tuple[Any, ...]], cut: bool) -> bytes:
        from astropy.io.votable import from_table
        from astropy.io.votable.tree import Info
        from astropy.table import MaskedColumn, Table

        table = Table()
        for k, name in enumerate(names):
            cells = [row[k] for row in rows]
            kind = self._types.get(name.lower()) or np.array([c for c in cells if c is not None] or [""]).dtype
            gone = [cell is None for cell in cells]
            blank = "" if kind.kind == "U" else 0
            values = np.array([blank if cell is None else cell for cell in cells], kind)
            table[name] = MaskedColumn(values, mask=gone)
        votable = from_table(table)
        votable.set_all_tables_format("binary2")
        for field in votable.get_first_table().fields:
            if field.name == "source_id":  # as the archive spells it
                field.ID, field.name = "SOURCE_ID", "SOURCE_ID"
        resource = votable.resources[0]
        resource.infos.append(Info(name="QUERY_STATUS", value="OVERFLOW" if cut else "OK"))
        out = io.BytesIO()
        votable.to_xml(out)
        return gzip.compress(out.getvalue(), mtime=0)


def _texts(flags: np.ndarray) -> list[str]:
    return ["True" if flag else "False" for flag in flags.tolist()]


def _in_cone(ra: float, dec: float, ra0: float, dec0: float, radius: float) -> int:
    a, d, a0, d0 = np.radians([ra, dec, ra0, dec0])
    h = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    return int(np.degrees(2 * np.arcsin(np.sqrt(h))) <= radius)


def _refusal(text: str) -> bytes:
    """A document of an error as TAP has it."""
    said = html.escape(text, quote=True)
    return (
        '<?xml version="1.0"?><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f'<RESOURCE type="results"><INFO name="QUERY_STATUS" value="ERROR">{said}</INFO></RESOURCE></VOTABLE>'
    ).encode()


def gaia_source_of(sources: SourceTable, without: Collection[int] = (), seed: int = 3) -> dict[str, np.ndarray]:
    """A table gaia_source for sources, in a field around (60, -10): G of some is missing, some have no spectra."""
    rng = np.random.default_rng(seed)
    n = len(sources)
    g = rng.uniform(10, 17, n).astype(np.float32)
    bp_rp = rng.uniform(0, 2, n).astype(np.float32)
    return {
        "source_id": sources.source_id,
        "ra": 60 + rng.uniform(-0.5, 0.5, n),
        "dec": -10 + rng.uniform(-0.5, 0.5, n),
        "parallax": np.where(rng.random(n) < 0.1, np.nan, rng.normal(1, 1, n)),
        "parallax_error": rng.uniform(0.01, 0.1, n).astype(np.float32),
        "pmra": rng.normal(0, 5, n),
        "pmdec": rng.normal(0, 5, n),
        "ref_epoch": np.full(n, 2016.0),
        "phot_g_mean_mag": g,
        "phot_bp_mean_mag": g + bp_rp / 2,
        "phot_rp_mean_mag": g - bp_rp / 2,
        "bp_rp": bp_rp,
        "ruwe": rng.uniform(0.9, 1.4, n).astype(np.float32),
        "phot_bp_rp_excess_factor": rng.uniform(1.1, 1.3, n).astype(np.float32),
        "teff_gspphot": np.where(rng.random(n) < 0.2, np.nan, rng.uniform(4000, 7000, n)).astype(np.float32),
        "has_xp_continuous": ~np.isin(sources.source_id, [*without]),
    }
