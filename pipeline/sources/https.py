"""Download over HTTPS, going on where a dropped connection stopped."""

import re
from pathlib import Path
from typing import NoReturn

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from pipeline.progress import download_bar, note
from pipeline.sources import retries
from pipeline.sources.bounded_http import Bounds, bounded
from pipeline.sources.places import PlaceError

ATTEMPTS = 5
WAIT = retries.wait
TOLD_S = 10  # a longer pause is told
TIMEOUT = httpx2.Timeout(30, connect=8)
# An attempt that brought this many bytes has earned the next one a full set of retries.
PROGRESS = 1 << 20
# Slower than this, a server is taken for one that never ends.
BOUNDS = Bounds(seconds=30, per_second=4096)
LARGEST, LARGEST_UNSAID = 1 << 38, 1 << 32  # bytes of a body, and of one whose server does not say how many


class TryAgain(PlaceError):
    """A failure that may pass; `response`: the answer that failed, if there was one."""

    def __init__(self, reason: str, response: httpx2.Response | None = None):
        super().__init__(reason)
        self.response = response


def download(address: str, partial: Path, name: str) -> None:
    """Fill `partial` with the body at `address`; what it already holds is kept where the server can resume.

    Raises PlaceError when the server refuses, sends more than it said or than fits, or fails ATTEMPTS times in a row
    without progress; one that is slower than BOUNDS allow fails.
    """

    def tell(state: RetryCallState) -> None:
        if state.outcome and state.upcoming_sleep > TOLD_S:
            note(f"{name}: {state.outcome.exception()} and is asked again in {state.upcoming_sleep:.0f} s")

    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=WAIT,
        retry=retry_if_exception_type(TryAgain),
        before_sleep=tell,
        reraise=True,
    )
    with bounded(httpx2.Client(follow_redirects=True, timeout=TIMEOUT), BOUNDS) as client:
        transfer = Transfer(client, address, partial, name)
        while not retrying(transfer.attempt):
            pass


class Transfer:
    """One body on its way into one file, in as many requests as it takes."""

    def __init__(self, client: httpx2.Client, address: str, partial: Path, name: str):
        self.client, self.address, self.partial, self.name = client, address, partial, name
        self.version: tuple[str | None, int | None] | None = None

    def attempt(self) -> bool:
        """Whether the body is now complete; False when the connection was dropped after some progress.

        Raises TryAgain or PlaceError.
        """
        before = self._size()
        try:
            self._receive(before)
            return True
        except httpx2.HTTPStatusError as error:
            status = error.response.status_code
            if status == 416:
                self._restart("there is nothing to resume")
            reason = f"the server answered {status}"
            passes = retries.may_pass(error.response)
            raise (TryAgain(reason, error.response) if passes else PlaceError(reason)) from None
        except httpx2.TransportError as error:
            if self._size() - before >= PROGRESS:
                return False
            raise TryAgain(_reason(error)) from None
        except httpx2.HTTPError as error:
            raise PlaceError(str(error) or type(error).__name__) from None

    def _receive(self, done: int) -> None:
        with self.client.stream("GET", self.address, headers=self._headers(done)) as response:
            response.raise_for_status()
            start, total = _extent(response)
            version = (response.headers.get("ETag"), total)
            resumed = response.status_code == 206
            if resumed and (start != done or self.version not in (None, version)):
                self._restart("the file changed on the server")
            self.version = version
            kept = done if resumed else 0
            most = LARGEST_UNSAID if total is None else total
            if most > LARGEST:
                raise PlaceError(f"the server says that it has more than {LARGEST} bytes")
            with self.partial.open("ab" if resumed else "wb") as out, download_bar(self.name, total, kept) as advance:
                for chunk in response.iter_bytes():
                    kept += len(chunk)
                    if kept > most:
                        self._refuse(f"the server sent more than {most} bytes{'' if total is None else ', as it said'}")
                    out.write(chunk)
                    advance(len(chunk))

    def _headers(self, done: int) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
            etag = self.version and self.version[0]
            if etag and not etag.startswith("W/"):  # a weak one does not promise the same bytes
                headers["If-Range"] = etag
        return headers

    def _restart(self, reason: str) -> None:
        self.partial.unlink(missing_ok=True)
        self.version = None
        raise TryAgain(reason)

    def _refuse(self, reason: str) -> NoReturn:
        self.partial.unlink(missing_ok=True)
        raise PlaceError(reason)

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0


def _extent(response: httpx2.Response) -> tuple[int | None, int | None]:
    """First byte of the answer and size of the whole body, as far as the server tells."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found:
            return None, None
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length and length.isdecimal() and "Content-Encoding" not in response.headers else None


def _reason(error: httpx2.TransportError) -> str:
    text = str(error)
    if "CERTIFICATE" in text:
        return "its certificate is not trusted"
    if isinstance(error, httpx2.TimeoutException):
        return "timed out"
    if isinstance(error, httpx2.ConnectError):
        return "no connection"
    return text or type(error).__name__
