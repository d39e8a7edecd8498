"""Servers that a user's configuration names, and what is said when they misbehave."""

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

from tenacity import wait_none

from pipeline.judges.endpoint import client
from pipeline.sources import Artefact, fetch, https
from pipeline.sources.bounded_http import Bounds
from tests.helpers.cases import Cases, refused

cases = Cases("Servers")


class Odd(http.server.BaseHTTPRequestHandler):
    """A server that misbehaves as its path says."""

    def do_GET(self) -> None:
        """Answer, or not."""
        with contextlib.suppress(OSError):
            getattr(self, self.path.strip("/").split("/")[0].replace("-", "_"))()

    do_POST = do_GET

    def head(self, status: int = 200, **headers: str) -> None:
        """Status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def drip_headers(self) -> None:
        """A byte of headers at a time, and never the last."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self.drip(b"X-A: b\r\n")

    def drip_body(self) -> None:
        """A body of which a byte comes at a time."""
        self.head(Content_Length="100000")
        self.drip(b"x")

    def drip(self, piece: bytes) -> None:
        """The same piece, slowly, until nobody listens."""
        for _ in range(600):
            self.wfile.write(piece)
            self.wfile.flush()
            time.sleep(0.05)

    def endless(self) -> None:
        """A body without a length, as fast as it goes, until nobody listens."""
        self.head()
        while True:
            self.wfile.write(b"x" * 2**16)

    def round(self) -> None:
        """To itself."""
        self.head(302, Location="/round/file", Content_Length="0")

    def short(self) -> None:
        """Fewer bytes than said."""
        self.head(Content_Length="1000")
        self.wfile.write(b"x" * 10)

    def lies(self) -> None:
        """A range that is of fewer bytes than come."""
        self.head(206, Content_Range="bytes 0-4/5", Content_Length="1000")
        self.wfile.write(b"x" * 1000)

    def giant(self) -> None:
        """A length of more than any disk has."""
        self.head(Content_Length=str(2**60))

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def odd_server() -> Iterator[str]:
    """Its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


ODD = {
    "drip-headers": "timed out",
    "drip-body": "timed out",
    "endless": "more than",
    "round": "redirect",
    "short": "could not be fetched",
    "lies": "more than 5 bytes",
    "giant": "it has more than",
}


@cases("V60", "a source that never ends, drips, redirects for ever or lies of its length", "one line; no file is left")
def odd_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(https, "WAIT", wait_none())
    monkeypatch.setattr(https, "ATTEMPTS", 2)
    monkeypatch.setattr(https, "BOUNDS", Bounds(seconds=0.3, per_second=4096))
    monkeypatch.setattr(https, "LARGEST_UNSAID", 2**20)
    with odd_server() as address:
        for path, pattern in ODD.items():
            cache = tmp_path / path
            wanted = Artefact("data.bin", "0" * 64, (f"{address}/{path}/file",))
            started = time.monotonic()
            with refused(pattern):
                fetch(wanted, cache)
            assert time.monotonic() - started < 5, path
            assert not [file for file in cache.rglob("data.bin*") if file.suffix != ".partial"], path


@cases("V61", "a judge's endpoint that never ends, drips or redirects for ever", "`unknown`, with why, soon")
def odd_endpoints(monkeypatch):
    monkeypatch.setattr(client, "LARGEST", 2**20)
    monkeypatch.setattr(client, "LONGEST", 2)
    with odd_server() as address:
        for path in ("drip-headers", "drip-body", "endless", "round", "short", "giant"):
            endpoint = client.Endpoint(f"{address}/{path}", "m", "", 0.2, 0, 0, 1)
            started = time.monotonic()
            with client.Client(endpoint, client.Style.CHAT, 16) as asked:
                reply = asked.ask([{"role": "user", "content": "?"}])
            assert reply.answer is None, path
            assert reply.failure.startswith("no answer"), path
            assert reply.failure.isprintable(), path
            assert time.monotonic() - started < 5, path


test_cases = cases.test()
