"""Download over HTTPS, going on where a dropped connection stopped."""

import time
from pathlib import Path

import httpx

from pipeline.sources.places import PlaceError
from pipeline.sources.progress import download_bar

ATTEMPTS = 5
TIMEOUT = httpx.Timeout(30, connect=10)
# Worth another try: the server is busy or failing, not refusing.
PASSING = {408, 425, 429, 500, 502, 503, 504}


def download(address: str, partial: Path, name: str, pause: float = 1.0) -> None:
    """Fill `partial` with the body at `address`; what it already holds is kept when the server can resume.

    Raises PlaceError when the address does not exist or the connection fails ATTEMPTS times in a row
    without a byte of progress.
    """
    failures = 0
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
        while True:
            before = partial.stat().st_size if partial.exists() else 0
            try:
                _receive(client, address, partial, name)
                return
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status not in PASSING:
                    raise PlaceError(f"the server answered {status}") from None
                reason = f"the server answered {status}"
            except httpx.TransportError as error:
                reason = _reason(error)
            moved = partial.exists() and partial.stat().st_size > before
            failures = 1 if moved else failures + 1
            if failures >= ATTEMPTS:
                raise PlaceError(reason)
            time.sleep(pause * 2 ** (failures - 1))


def _receive(client: httpx.Client, address: str, partial: Path, name: str) -> None:
    done = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with client.stream("GET", address, headers=headers) as response:
        if response.status_code == 416:  # the partial file is not a beginning of this body: start again
            partial.unlink()
            raise httpx.ReadError("cannot resume")
        response.raise_for_status()
        resumed = response.status_code == 206
        done = done if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        with partial.open("ab" if resumed else "wb") as out, download_bar(name, total, done) as advance:
            for chunk in response.iter_raw():
                out.write(chunk)
                advance(len(chunk))
    if total is not None and partial.stat().st_size != total:
        raise httpx.ReadError("the connection was dropped")


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    if isinstance(error, httpx.TimeoutException):
        return "timed out"
    return str(error) or type(error).__name__
