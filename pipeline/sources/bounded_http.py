"""HTTP whose answers are bounded in time and size, whatever a server does with each single read."""

import math
import time
from dataclasses import dataclass
from typing import Any

import httpx2

REDIRECTS = 8


@dataclass(frozen=True)
class Bounds:
    """An answer may take `seconds`, and one more for each `per_second` bytes; it has `most` bytes with its headers."""

    seconds: float
    per_second: float = math.inf
    most: float = math.inf


def bounded(client: httpx2.Client, bounds: Bounds) -> httpx2.Client:
    """The same client, whose every answer ends in its timeout or read error out of bounds."""
    client.max_redirects = REDIRECTS
    # httpx2 bounds each read alone, and lets nobody look between them but the backend of its pools.
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = _Backend(pool._network_backend, bounds)
    return client


class _Backend:
    """Opens connections."""

    def __init__(self, inner: Any, bounds: Bounds):
        self._inner, self._bounds = inner, bounds

    def connect_tcp(self, *arguments: Any, **named: Any) -> "_Stream":
        return _Stream(self._inner.connect_tcp(*arguments, **named), self._bounds)

    def connect_unix_socket(self, *arguments: Any, **named: Any) -> "_Stream":
        return _Stream(self._inner.connect_unix_socket(*arguments, **named), self._bounds)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream:
    """A connection; the clock starts anew with each request that is written."""

    def __init__(self, inner: Any, bounds: Bounds):
        self._inner, self._bounds = inner, bounds
        self._started, self._bytes = time.monotonic(), 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        bounds = self._bounds
        left = self._started + bounds.seconds + self._bytes / bounds.per_second - time.monotonic()
        if left <= 0:
            raise httpx2.ReadTimeout(f"slower than {bounds.seconds:g} s allow")
        data = self._inner.read(max_bytes, left if timeout is None else min(timeout, left))
        self._bytes += len(data)
        if self._bytes > bounds.most:
            raise httpx2.ReadError(f"more than {bounds.most:g} bytes")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)
        self._started, self._bytes = time.monotonic(), 0

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, *arguments: Any, **named: Any) -> "_Stream":
        return _Stream(self._inner.start_tls(*arguments, **named), self._bounds)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
