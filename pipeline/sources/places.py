"""The grammar of places: hub://, https://, wheel:// and file paths."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class PlaceError(Exception):
    """Why one place did not yield the bytes; other places may."""


@dataclass(frozen=True)
class HubFile:
    """A file of a model hub's repository at a revision."""

    repo: str
    revision: str
    file: str


@dataclass(frozen=True)
class Url:
    """An HTTPS address."""

    address: str


@dataclass(frozen=True)
class WheelMember:
    """A file inside a wheel of the package index; read as a zip archive, never installed or imported."""

    distribution: str
    version: str
    member: str


@dataclass(frozen=True)
class LocalFile:
    """A file that is already here."""

    path: Path


Place = HubFile | Url | LocalFile | tuple[WheelMember, ...]


def parse(place: str) -> Place:
    """Parse one place. Raises UserError that quotes a malformed one."""
    scheme, separator, rest = place.partition("://")
    if not separator:
        return LocalFile(Path(place).expanduser())
    if scheme == "file":
        return LocalFile(Path(rest).expanduser())
    if scheme == "wheel":
        return _wheel(place, rest)
    if scheme == "hub":
        match = re.fullmatch(r"([\w.-]+/[\w.-]+)@([\w.-]+)/(.+)", rest)
        if match:
            return HubFile(*match.groups())
    if scheme == "https" or (scheme == "http" and urlsplit(place).hostname in LOOPBACK):
        return Url(place)
    raise UserError(
        f"place '{place}' is not understood: use hub://owner/name@revision/file, https://..., "
        "wheel://distribution==version/member or a path"
    )


def _wheel(place: str, rest: str) -> tuple[WheelMember, ...]:
    members = []
    for text in _expanded(place, rest):
        match = re.fullmatch(r"([\w.-]+)==([\w.!+-]+)/(.+)", text)
        if not match:
            raise UserError(f"place '{place}' is not understood: use wheel://distribution==version/member")
        members.append(WheelMember(*match.groups()))
    return tuple(members)


def _expanded(place: str, text: str) -> list[str]:
    """`a{1..3}b{1..3}` -> a1b1, a2b2, a3b3: the parts of one artefact, in order."""
    ranges = set(re.findall(r"\{(\d+)\.\.(\d+)\}", text))
    if not ranges:
        return [text]
    if len(ranges) > 1:
        raise UserError(f"place '{place}' has ranges that differ: every {{a..b}} takes the same number")
    first, last = map(int, ranges.pop())
    return [re.sub(r"\{\d+\.\.\d+\}", str(number), text) for number in range(first, last + 1)]
