"""Rows of unfinished work, kept as they come, so that a killed run goes on where it was."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.disk import files

HASH = "row_sha256"


class PartialRows:
    """Rows appended batch by batch under a name that is not the artefact's, for resume; each says which it is.

    With each row stands its hash, so that a damaged one is seen.
    """

    def __init__(self, path: Path):
        """Read what an interrupted run left, but lines that were torn, altered or doubled: those are cut out."""
        self.path = path
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        found = {line: row for line in lines if (row := _kept(line)) is not None}
        self.rows: list[dict[str, Any]] = list(found.values())
        if path.exists():
            with files.replacing(path) as temporary:
                temporary.write_bytes(b"".join(line + b"\n" for line in found))

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Put a batch of rows on disk."""
        rows = [dict(row) for row in rows]
        self.rows.extend(rows)
        with files.explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("".join(files.jsonl_line({**row, HASH: _hash(row)}) for row in rows))

    def discard(self) -> None:
        """Remove the file once its rows stand in an artefact."""
        self.path.unlink(missing_ok=True)


def _kept(line: bytes) -> dict[str, Any] | None:
    """A row as it was appended; None for any other line."""
    try:
        row = json.loads(line)
        return row if row.pop(HASH) == _hash(row) else None
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def _hash(row: Mapping[str, Any]) -> str:
    return files.content_hash(files.jsonl_line(row))[:16]
