"""A seal: the sha256 of each committed result, by which one that was edited is known without what made it."""

import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.disk.files import file_hash, read_object, write_json


def write_seal(seal: Path, results: Iterable[Path]) -> None:
    """{path as seen from the seal's folder: sha256}."""
    named = {Path(os.path.relpath(path, seal.parent)).as_posix(): path for path in results}
    write_json(seal, {name: file_hash(path) for name, path in named.items()})


def sealed(seal: Path) -> dict[Path, str]:
    """{path: sha256}. Raises UserError for what is no seal."""
    return {Path(os.path.normpath(seal.parent / name)): digest for name, digest in read_object(seal).items()}


def broken(seal: Path) -> list[Path]:
    """Results that are gone, or have other bytes than when they were sealed."""
    return [path for path, digest in sealed(seal).items() if not path.is_file() or file_hash(path) != digest]
