"""HTTP whose answers are bounded in time and size, whatever a server does with each single read."""

import math
import sys
import time
from dataclasses import dataclass
from typing import Any, TypeVar

REDIRECTS = 8
Client = TypeVar("Client")


@dataclass(frozen=True)
class Bounds:
    """An answer may take `seconds`, and one more for each `per_second` bytes; it has `most` bytes with its headers."""

    seconds: float
    per_second: float = math.inf
    most: float = math.inf


def bounded(client: Client, bounds: Bounds) -> Client:
    """The same client (httpx's or httpx2's), whose every answer ends in its timeout or read error out of bounds."""
    known: Any = client
    known.max_redirects = REDIRECTS
    # httpx bounds each read alone, and lets nobody look between them but the backend of its pools.
    for transport in (known._transport, *known._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None:
            core = sys.modules[type(pool).__module__.split(".")[0]]
            pool._network_backend = _Backend(pool._network_backend, bounds, core)
    return client


class _Backend:
    """Opens connections; `core` is the package below the client, whose errors it knows."""

    def __init__(self, inner: Any, bounds: Bounds, core: Any):
        self._inner, self._bounds, self._core = inner, bounds, core

    def connect_tcp(self, *arguments: Any, **named: Any) -> "_Stream":
        return _Stream(self._inner.connect_tcp(*arguments, **named), self._bounds, self._core)

    def connect_unix_socket(self, *arguments: Any, **named: Any) -> "_Stream":
        return _Stream(self._inner.connect_unix_socket(*arguments, **named), self._bounds, self._core)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream:
    """A connection; the clock starts anew with each request that is written."""

    def __init__(self, inner: Any, bounds: Bounds, core: Any):
        self._inner, self._bounds, self._core = inner, bounds, core
        self._started, self._bytes = time.monotonic(), 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        bounds = self._bounds
        left = self._started + bounds.seconds + self._bytes / bounds.per_second - time.monotonic()
        if left <= 0:
            raise self._core.ReadTimeout(f"slower than {bounds.seconds:g} s allow")
        data = self._inner.read(max_bytes, left if timeout is None else min(timeout, left))
        self._bytes += len(data)
        if self._bytes > bounds.most:
            raise self._core.ReadError(f"more than {bounds.most:g} bytes")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)
        self._started, self._bytes = time.monotonic(), 0

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, *arguments: Any, **named: Any) -> "_Stream":
        return _Stream(self._inner.start_tls(*arguments, **named), self._bounds, self._core)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
