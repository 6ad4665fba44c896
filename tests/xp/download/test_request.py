"""One request: what is asked again, what is refused, and what an error says."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import xpjax
from tests.archive.server import MadeArchive, Reply, Request, error_page
from xpjax import XpjaxError
from xpjax.xp.download.request import BUSY, Client, Patience, Refused, Unreachable, error_text

QUICK = Patience(first=0.002, longest=0.01, total=0.5, unanswered=0.3, faults=3)


class Script:
    """Answers in turn, the last one for ever."""

    def __init__(self, *replies: Reply) -> None:
        self.replies, self.n = replies, 0

    def __call__(self, request: Request) -> Reply:
        self.n += 1
        return self.replies[min(self.n, len(self.replies)) - 1]


@pytest.fixture(scope="module")
def archive() -> Iterator[MadeArchive]:
    with MadeArchive(xpjax.simulate_sources(1, correlations=False)) as archive:
        yield archive


def client(archive: MadeArchive, *replies: Reply) -> tuple[Client, Script]:
    script = archive.routes["x"] = Script(*replies)
    return Client(archive.url + "/", QUICK), script


BUSY_REPLY = Reply(b"too many", 429, headers={"Retry-After": "0.01"})


@pytest.mark.parametrize(
    "bad", [BUSY_REPLY, error_page(503, "down"), error_page(500, "fault"), Reply(b"x" * 5000, cut=True)]
)
def test_asked_again(archive: MadeArchive, bad: Reply) -> None:
    ask, script = client(archive, bad, bad, Reply(b"good"))
    assert ask.post("x", {"a": "b c,d"}).body == b"good"
    assert script.n == ask.n_request == 3
    assert archive.requests[-1].form["A"] == "b c,d"


def test_a_pause_that_the_archive_asks_for_is_kept(archive: MadeArchive) -> None:
    ask, _ = client(archive, Reply(b"", 429, headers={"Retry-After": "0.15"}), Reply(b"good"))
    started = time.monotonic()
    assert ask.get("x").body == b"good"
    assert time.monotonic() - started > 0.14


def test_refused(archive: MadeArchive) -> None:
    ask, script = client(archive, error_page(400, "Cannot parse query"))
    with pytest.raises(Refused, match=r"HTTP 400: .*Cannot parse query") as caught:
        ask.post("x", {})
    assert (caught.value.status, caught.value.final, script.n) == (400, True, 1)
    ask, script = client(archive, error_page(500, "fault"))
    with pytest.raises(Refused, match=r"HTTP 500: .*fault"):
        ask.post("x", {})
    assert script.n == QUICK.faults
    ask, script = client(archive, error_page(500, "fault"))
    with pytest.raises(Refused):
        ask.post("x", {}, again=BUSY)
    assert script.n == 1


def test_an_error_in_the_place_of_a_result(archive: MadeArchive) -> None:
    said = (
        '<VOTABLE><RESOURCE><INFO name="QUERY_STATUS" value="ERROR">no column &quot;x&quot;</INFO></RESOURCE></VOTABLE>'
    )
    ask, _ = client(archive, Reply(said.encode()))
    with pytest.raises(Refused, match='answers no column "x"'):
        ask.get("x")


def test_given_up(archive: MadeArchive) -> None:
    ask, script = client(archive, Reply(b"x" * 5000, cut=True))
    with pytest.raises(Unreachable, match=r"no answer from .*cut after 2,500 bytes.*HTTPS_PROXY"):
        ask.get("x")
    assert script.n > 3
    ask, _ = client(archive, Reply(b"", 429, headers={"Retry-After": "3600"}))
    started = time.monotonic()
    with pytest.raises(Unreachable, match="HTTP 429: nothing more, wait 3600 s"):
        ask.get("x")
    assert time.monotonic() - started < 0.4


@pytest.mark.parametrize("host", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_no_network(host: str) -> None:
    started = time.monotonic()
    with pytest.raises(Unreachable, match=f"no answer from {host} .*by hand"):
        Client(host, QUICK).get("x")
    assert time.monotonic() - started < 20


def test_closing_ends_pauses(archive: MadeArchive) -> None:
    ask, _ = client(archive, BUSY_REPLY)
    ask.close()
    with pytest.raises(Unreachable, match="ended"):
        ask.get("x")


def test_no_address() -> None:
    with pytest.raises(XpjaxError, match="no address"):
        Client("gea.esac.esa.int")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"message": "Too many ids"}', "Too many ids"),
        (b"<html><style>p {}</style><body><h1>502 Bad Gateway</h1></body></html>", "502 Bad Gateway"),
        (b"Error 500:\nInvalid Data Structure parameter: 'COMBINED'", "Invalid Data Structure parameter: 'COMBINED'"),
        (b"<VOTABLE><INFO name='QUERY_STATUS' value='ERROR'><![CDATA[a < b]]></INFO></VOTABLE>", "a < b"),
        (b"", "nothing more"),
        (b"x" * 1000, "x" * 297 + "..."),
    ],
)
def test_error_texts(body: bytes, said: str) -> None:
    assert error_text(body) == said
