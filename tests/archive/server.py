"""A made archive on this machine: DataLink from made sources, in all the moods of the real one.

    with MadeArchive(sources, Mood(busy=3, drop=0.05)) as archive:
        xpjax.fetch(ids, host=archive.url)

Queries and logins are answered where there is a `tap` (`tests.archive.tap`); other services are added by their paths:
`archive.routes["some-server/"] = answer`, where `answer(request)` gives a `Reply`. Moods hold for every path.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

import xpjax
from xpjax import SourceTable


@dataclasses.dataclass(frozen=True)
class Mood:
    """How the archive behaves.

    busy: every so many requests is answered 429, with Retry-After; fail: share of requests answered 500 or 503, by
    chance of the seed; cut: every so many answers of DataLink breaks off in the middle; drop: share of ids left out
    when they are asked for the first time; slow: seconds before each answer; refused: structures and products answered
    500, as the archive does; most_ids: more ids in a request are answered 500; without: ids that have no spectra;
    strings: arrays in brackets; zipped: whether answers are packed; empty: what is answered where nothing is found.
    """

    busy: int = 0
    fail: float = 0.0
    cut: int = 0
    drop: float = 0.0
    slow: float = 0.0
    refused: Collection[str] = ("DATAMODEL_GAIA",)
    most_ids: int = 5000
    without: Collection[int] = ()
    strings: bool = False
    zipped: bool = True
    empty: str = "zip"
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked: method, path without host and query, form and query, by upper-case name too, headers, number."""

    method: str
    path: str
    form: Mapping[str, str]
    headers: Mapping[str, str]
    number: int


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer; a cut one breaks off after half of its body."""

    body: bytes
    status: int = 200
    kind: str = "application/octet-stream"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cut: bool = False


def error_page(status: int, text: str) -> Reply:
    """An error as the archive words it."""
    page = f"<html><head><title>Error {status}</title></head><body><h1>Error {status}:</h1>\n{text}</body></html>"
    return Reply(page.encode(), status, "text/html")


class MadeArchive:
    """A server on a port of its own, from `with` on. `seen` counts requests by path, `asked` how often each id was."""

    def __init__(
        self, sources: SourceTable, mood: Mood | None = None, release: str = "Gaia DR3", tap: Any = None
    ) -> None:
        self.sources, self.mood, self.release, self.tap = sources, mood or Mood(), release, tap
        self.routes: dict[str, Callable[[Request], Reply]] = {"data-server/data": self.data}
        self.seen: Counter[str] = Counter()
        self.asked: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()
        self.requests: list[Request] = []
        self.n_data = 0
        self._lock = threading.Lock()
        self.lines: tuple[bytes, dict[int, bytes]] | None = None

    def __enter__(self) -> MadeArchive:
        self.server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: Request) -> Reply:
        """What a request is answered, in this mood."""
        mood = self.mood
        if mood.slow:
            time.sleep(mood.slow)
        if mood.busy and request.number % mood.busy == mood.busy - 1:
            return Reply(b"too many requests", 429, "text/plain", {"Retry-After": "0.01"})
        if mood.fail and chance(mood.seed, request.number) < mood.fail:
            return error_page((500, 503)[request.number % 2], "Cannot process request")
        for path in sorted(self.routes, key=len, reverse=True):
            if request.path.startswith(path):
                return self.routes[path](request)
        if self.tap and (told := self.tap.answer(request.method, f"/{request.path}", request.form, self.url)):
            return Reply(told.body, told.status, "text/xml", told.headers)
        return error_page(404, f"no service {request.path}")

    # --- DataLink

    def data(self, request: Request) -> Reply:
        """Spectra."""
        form, mood = request.form, self.mood
        for name in ("DATA_STRUCTURE", "RETRIEVAL_TYPE"):
            if form[name] in mood.refused:
                return error_page(500, f"Invalid parameter: '{form[name]}' is no {name}")
        if form["RELEASE"] != self.release:
            return error_page(500, f"Invalid Data Release: '{form['RELEASE']}'")
        ids = [int(one) for one in form["ID"].split(",")]
        if len(ids) > mood.most_ids:
            return error_page(500, f"more than {mood.most_ids} ids")
        with self._lock:
            dropped = {one for one in ids if not self.asked[one] and chance(mood.seed, one) < mood.drop}
            self.asked.update(ids)
            self.n_data += 1
            number = self.n_data
        header, rows = self.rows()
        # The archive keeps no order of its own that is that of the request.
        found = sorted(one for one in {*ids} - dropped - {*mood.without} if one in rows)
        return dataclasses.replace(
            self._reply(form, header, rows, found), cut=bool(mood.cut) and number % mood.cut == mood.cut - 1
        )

    def _reply(self, form: Mapping[str, str], header: bytes, rows: Mapping[int, bytes], found: list[int]) -> Reply:
        product, structure = form["RETRIEVAL_TYPE"], form["DATA_STRUCTURE"]
        if not found and self.mood.empty != "zip":
            return Reply(b"") if self.mood.empty == "nothing" else Reply(header)
        if form["FORMAT"] == "csv":
            groups = {f"{product}-{self.release} {one}": [one] for one in found}
            groups = groups if structure == "INDIVIDUAL" else {f"{product}_RAW": found} if found else {}
            files = {f"{name}.csv": b"".join([header, *map(rows.get, some)]) for name, some in groups.items()}
        else:
            files = {f"{product}_RAW.xml": self._votable(found)} if found else {}
        if len(files) == 1 and not self.mood.zipped:
            return Reply(*files.values())
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, body in files.items():
                archive.writestr(name, body)
        return Reply(out.getvalue(), kind="application/zip", headers={"Content-Disposition": 'filename="xp.zip"'})

    def _votable(self, found: list[int]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "xp.vot"
            xpjax.write(path, self.sources[np.isin(self.sources.source_id, found)])
            return path.read_bytes()

    def rows(self) -> tuple[bytes, dict[int, bytes]]:
        """The header of the archive's csv, and the line of each source; those of several rows of a source together."""
        with self._lock:
            if self.lines is None:
                self.lines = csv_rows(self.sources, self.mood.strings)
            return self.lines


def csv_rows(sources: SourceTable, strings: bool = False) -> tuple[bytes, dict[int, bytes]]:
    """Header and lines of sources as csv."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "xp.csv"
        xpjax.write(path, sources)
        text = path.read_bytes()
    if strings:
        text = text.replace(b'"(', b'"[').replace(b')"', b']"')
    header, *lines = text.splitlines(keepends=True)
    place = header.decode().strip().split(",").index("source_id")
    rows: dict[int, bytes] = {}
    for line in lines:
        one = int(line.split(b",", place + 1)[place])
        rows[one] = rows.get(one, b"") + line
    return header, rows


def chance(seed: int, number: int) -> float:
    """A number within 0..1 that depends on seed and number alone."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big") / 2**32


class _Server(ThreadingHTTPServer):
    """A server that does not mind who asked to be gone."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler(archive: MadeArchive) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer("GET", "")

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            self.close_connection = len(body) < size  # who asked is gone
            if not self.close_connection:
                self._answer("POST", body.decode())

        def _answer(self, method: str, body: str) -> None:
            address = urlsplit(self.path)
            form = {name: values[-1] for name, values in parse_qs(f"{address.query}&{body}").items()}
            form = {name.upper(): value for name, value in form.items()} | form
            path = address.path.lstrip("/")
            with archive._lock:
                request = Request(method, path, form, dict(self.headers), len(archive.requests))
                archive.requests.append(request)
                archive.seen[path] += 1
            reply = archive.answer(request)
            archive.statuses[reply.status] += 1
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Type": reply.kind, **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
                if reply.cut:
                    self.close_connection = True
            except OSError:  # who asked is gone
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
