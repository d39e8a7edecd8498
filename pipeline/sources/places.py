"""The grammar of places: hub://, https://, wheel:// and local files."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
COMMIT = re.compile(r"[0-9a-f]{40}")
REPO = r"[\w.-]+/[\w.-]+"


class PlaceError(Exception):
    """Why one place did not yield the bytes, in a few words; other places may."""


@dataclass(frozen=True)
class HubFile:
    """A file of a model hub's repository at a commit."""

    repo: str
    revision: str
    file: str


@dataclass(frozen=True)
class Url:
    """An HTTPS address."""

    address: str


@dataclass(frozen=True)
class WheelMember:
    """A file inside a wheel."""

    distribution: str
    version: str
    member: str


@dataclass(frozen=True)
class WheelParts:
    """Files inside wheels of the package index; one after the other they are the artefact."""

    members: tuple[WheelMember, ...]


@dataclass(frozen=True)
class LocalFile:
    """A file that is already on this machine."""

    path: Path


Place = HubFile | Url | WheelParts | LocalFile


def parse(place: str) -> Place:
    """The place that the string stands for; a relative path starts at the project's folder.

    Raises UserError that quotes a malformed one.
    """
    scheme, separator, rest = place.partition("://")
    match scheme if separator else "path":
        case "path" if place:
            return LocalFile(ROOT / Path(place).expanduser())
        case "file" if rest.startswith("/"):
            return LocalFile(Path(unquote(rest)))
        case "hub":
            return _hub(place, rest)
        case "wheel":
            return WheelParts(tuple(_member(place, text) for text in _expanded(place, rest)))
        case "https" | "http":
            return _url(place)
    raise _malformed(place)


def pinned(revision: str, of: str) -> str:
    """The revision itself, when it is a commit. Raises UserError when it is a branch or a tag, which can move."""
    if COMMIT.fullmatch(revision):
        return revision
    raise UserError(f"{of}: revision '{revision}' can move: pin it to a commit of 40 hex digits")


def _hub(place: str, rest: str) -> HubFile:
    found = re.fullmatch(rf"({REPO})@([^/]+)/(.+)", rest)
    if not found:
        raise _malformed(place)
    repo, revision, file = found.groups()
    return HubFile(repo, pinned(revision, f"place '{place}'"), file)


def _url(place: str) -> Url:
    try:
        parts = urlsplit(place)
    except ValueError:  # brackets that do not close
        raise _malformed(place) from None
    if "@" in parts.netloc:  # not quoted: it holds a password
        raise UserError(f"the place at {parts.hostname} names a user: use an address without credentials")
    if not parts.hostname or not parts.path.strip("/"):
        raise _malformed(place)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise UserError(f"place '{place}' is not encrypted: use https://")
    return Url(place)


def _member(place: str, text: str) -> WheelMember:
    found = re.fullmatch(r"([\w.-]+)==([\w.!+-]+)/([^{}]+)", text)
    if not found:
        raise _malformed(place)
    return WheelMember(*found.groups())


def _expanded(place: str, text: str) -> list[str]:
    """`a{1..3}b{1..3}` -> a1b1, a2b2, a3b3: the parts of one artefact, in order."""
    ranges = {(int(first), int(last)) for first, last in re.findall(r"\{(\d+)\.\.(\d+)\}", text)}
    if not ranges:
        return [text]
    if len(ranges) > 1:
        raise UserError(f"place '{place}' has ranges that differ: every {{a..b}} takes the same number")
    [(first, last)] = ranges
    if first > last:
        raise UserError(f"place '{place}' has a range that runs backwards: {{{first}..{last}}}")
    return [re.sub(r"\{\d+\.\.\d+\}", str(number), text) for number in range(first, last + 1)]


def _malformed(place: str) -> UserError:
    return UserError(
        f"place '{place}' is not understood: use hub://owner/name@commit/file, https://host/file, "
        "wheel://distribution==version/member, file:///folder/file or a path"
    )
