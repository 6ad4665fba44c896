"""Requests to the archive: sent, asked again with growing pauses, and what an answer means."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import email.utils
import html
import json
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from xpjax.core.archive import HOST
from xpjax.core.errors import XpjaxError, say

T = TypeVar("T")

BUSY = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses of an archive that has no time: the same request may be answered later."""
FAULTY = BUSY | {500}
"""Also that of a fault of the archive, which often passes."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long an archive is waited for [s].

    first, longest: pauses between tries, which double; total: until a request is given up; unanswered: the same where
    the archive has never answered; connect, read: timeouts of one try; faults: tries where the archive answers 500.
    """

    first: float = 1.0
    longest: float = 120.0
    total: float = 1800.0
    unanswered: float = 10.0
    connect: float = 10.0
    read: float = 600.0
    faults: int = 6


PATIENCE = Patience()
"""The patience of clients that are given none."""


class Refused(XpjaxError):
    """The archive does not take a request; the message has its own words.

    status: that of HTTP; final: whether the request is at fault, so that it would be refused again.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status, self.final = status, 400 <= status < 500


class Unreachable(ConnectionError):
    """The archive gives no answer."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer: its bytes, the address that they came from in the end, and what they are said to be."""

    body: bytes
    url: str
    kind: str


class Client:
    """Ask one host, as several threads may at once. patience: how long to wait for it.

    inbox: what the thread that made the client is to do for the others, where it waits for them.
    """

    def __init__(self, host: str | None = None, patience: Patience | None = None) -> None:
        import requests

        import xpjax

        self.host = (host or HOST).rstrip("/")
        if not re.match(r"https?://[^/]", self.host):
            raise XpjaxError(f"{say('host', '--host')} {self.host!r} is no address; expected one such as {HOST}")
        self.patience = patience or PATIENCE
        self.answered = False
        self.n_request = self.n_byte = 0
        self.inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._maker, self._stop = threading.get_ident(), threading.Event()
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"xpjax/{xpjax.__version__}"

    def post(self, path: str, form: Mapping[str, str], *, again: Collection[int] = FAULTY) -> Reply:
        """Send a form to a path of the host; again: statuses after which it is sent again.

        Raises Refused for another status than 200 or an error in the archive's words, and Unreachable where no answer
        comes in the time that patience gives.
        """
        return self._ask("POST", path, form, again)

    def get(self, path: str, *, again: Collection[int] = FAULTY) -> Reply:
        """The answer of a path of the host; raises as `post`."""
        return self._ask("GET", path, None, again)

    def at_home(self, work: Callable[[], T]) -> T:
        """What `work` gives or raises, done by the thread that made the client.

        Libraries that read tables set filters of warnings, which all threads share: two at once would leave them wrong.
        """
        if threading.get_ident() == self._maker:
            return work()
        order: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.inbox.put(lambda: _fulfil(order, work))
        while not concurrent.futures.wait([order], timeout=0.2).done:
            if self._stop.is_set():
                raise Unreachable("the requests were ended")
        return order.result()

    def close(self) -> None:
        """End all pauses, and with them the requests that wait."""
        self._stop.set()

    def pause(self, k: int, at_least: float = 0.0) -> None:
        """Wait after the failed try k = 0, 1, ...: each time twice as long, less up to a half by chance."""
        longest = min(self.patience.first * 2.0**k, self.patience.longest)
        if self._stop.wait(max(random.uniform(0.5, 1.0) * longest, at_least)):
            raise Unreachable("the requests were ended")

    def _ask(self, method: str, path: str, form: Mapping[str, str] | None, again: Collection[int]) -> Reply:
        started = time.monotonic()
        faults = 0
        for k in range(10_000):
            wait, status = 0.0, 0
            try:
                reply, status, wait = self._once(method, path, form)
            except _Unanswered as error:
                reason, limit = str(error), self.patience.total if self.answered else self.patience.unanswered
            else:
                self.answered = True
                said = _error_document(reply.body)
                if status == 200 and not said:
                    return reply
                reason, limit = said or error_text(reply.body), self.patience.total
                faults += status not in BUSY
                if (said and status not in BUSY) or status not in again or faults >= self.patience.faults:
                    raise Refused(f"{self.host} answers {self._number(status)}{reason}", status)
                reason = f"HTTP {status}: {reason}" + (f", wait {wait:.0f} s" if wait >= 1 else "")
            # A pause that the archive asks for may be longer than any of ours.
            if time.monotonic() - started + wait > limit:
                break
            self.pause(k, wait)
        raise Unreachable(
            f"no answer from {self.host} ({reason}); check the network and proxies (HTTPS_PROXY), name another "
            f"{say('host=', '--host')}, or download the spectra by hand and read the file: xpjax photometry FILE"
        )

    @staticmethod
    def _number(status: int) -> str:
        return "" if status == 200 else f"HTTP {status}: "

    def _once(self, method: str, path: str, form: Mapping[str, str] | None) -> tuple[Reply, int, float]:
        """One try: the answer, its status, and how long the archive asks to wait. Raises _Unanswered."""
        import requests

        self.n_request += 1
        times = self.patience.connect, self.patience.read
        try:
            with self._session.request(
                method, f"{self.host}/{path.lstrip('/')}", data=form, timeout=times, stream=True
            ) as answer:
                pieces = []
                for piece in answer.iter_content(1 << 20):
                    pieces.append(piece)
                    if self._stop.is_set():
                        raise Unreachable("the requests were ended")
                body = b"".join(pieces)
                length = answer.headers.get("Content-Length", "")
                plain = not answer.headers.get("Content-Encoding")
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _Unanswered(_innermost(error)) from error
        except (requests.exceptions.ContentDecodingError, requests.exceptions.RetryError) as error:
            raise _Unanswered(f"a damaged answer: {error}") from error
        except requests.RequestException as error:
            raise XpjaxError(f"{self.host}: {error}; expected an address such as {HOST}") from error
        self.n_byte += len(body)
        if plain and length.isdigit() and int(length) != len(body):
            raise _Unanswered(f"the connection was cut after {len(body):,} of {int(length):,} bytes")
        reply = Reply(body, answer.url, answer.headers.get("Content-Type", ""))
        return reply, answer.status_code, _asked_pause(answer.headers.get("Retry-After", ""))

    @staticmethod
    def error_text(body: bytes) -> str:
        """What an error document of the archive says, as one line."""
        return error_text(body)


def _fulfil(order: concurrent.futures.Future[T], work: Callable[[], T]) -> None:
    try:
        order.set_result(work())
    except Exception as error:
        order.set_exception(error)


class _Unanswered(Exception):
    """No answer, or none that came to its end."""


def error_text(body: bytes) -> str:
    """What an error document says, VOTable, HTML, JSON or text, as one line of at most 300 characters."""
    text = body[:20_000].decode("utf-8", "replace").strip()
    if text[:1] in ("{", "["):
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if isinstance(said, dict):
            text = next((str(said[key]) for key in ("message", "error", "detail", "title") if said.get(key)), text)
    elif "<" in text:
        info = re.search(r"<INFO[^>]*QUERY_STATUS[^>]*>(.*?)</INFO>", text, re.DOTALL)
        text = info[1] if info and info[1].strip() else re.sub(r"(?is)<(style|script)\b.*?</\1>", " ", text)
        text = re.sub(r"(?s)<!\[CDATA\[(.*?)\]\]>", lambda match: html.escape(match[1]), text)
        text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    text = " ".join(text.split()).removeprefix("Error 500:").strip()
    return (text[:297] + "..." if len(text) > 300 else text) or "nothing more"


def _error_document(body: bytes) -> str:
    """What a VOTable says that holds an error in the place of a result; empty for any other body."""
    start = body[:4000]
    if start.lstrip()[:1] != b"<":
        return ""
    info = re.search(rb"<INFO[^>]*QUERY_STATUS[^>]*>", start)
    return error_text(body) if info and re.search(rb"value\s*=\s*[\"']ERROR", info[0], re.IGNORECASE) else ""


def _asked_pause(text: str) -> float:
    """Seconds of a header Retry-After, a number or a date."""
    try:
        seconds = float(text)
    except ValueError:
        date = email.utils.parsedate_to_datetime(text) if re.match(r"\w{3}, ", text) else None
        seconds = date.timestamp() - time.time() if date else 0.0
    return max(seconds, 0.0)


def _innermost(error: BaseException) -> str:
    """The reason at the bottom of an error of the network, without the layers of libraries above it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if type(error).__name__ == "IncompleteRead":
        return f"the connection was cut after {getattr(error, 'partial', 0):,} bytes"
    arguments: list[Any] = [one for one in error.args if isinstance(one, str)]
    return (arguments[-1] if arguments else str(error)).rstrip(".") or type(error).__name__
