"""Steps of long work, each kept as it comes, so that a killed run goes on where it was."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.disk import files

HASH = "sha256"


class Steps:
    """Values of named steps, under a name that is not the artefact's. Plain JSON: the same from memory and from disk.

    With each value stands its hash, so that a damaged one is seen.
    """

    def __init__(self, path: Path):
        """Read what an interrupted run left, but lines that were torn, altered or doubled: those are cut out."""
        self.path = path
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        whole = {line: row for line in lines if (row := _whole(line)) is not None}
        self.values: dict[str, Any] = {row["step"]: row["value"] for row in whole.values()}
        if path.exists():
            with files.replacing(path) as temporary:
                temporary.write_bytes(b"".join(line + b"\n" for line in whole))

    def __call__(self, step: str, compute: Callable[[], Any]) -> Any:
        """The value of a step: from disk, or computed now."""
        if step not in self.values:
            self.keep({step: compute()})
        return self.values[step]

    def keep(self, values: Mapping[str, Any]) -> None:
        """Put the values of some steps on disk, together."""
        self.values |= values
        rows = [{"step": step, "value": value} for step, value in values.items()]
        with files.explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("".join(files.jsonl_line({**row, HASH: _hash(row)}) for row in rows))

    def discard(self) -> None:
        """Remove the file once all values stand in an artefact."""
        self.path.unlink(missing_ok=True)


def _whole(line: bytes) -> dict[str, Any] | None:
    """A row as it was kept; None for any other line."""
    try:
        row = json.loads(line)
        return row if row.pop(HASH) == _hash(row) and isinstance(row["step"], str) else None
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def _hash(row: Mapping[str, Any]) -> str:
    return files.content_hash(files.jsonl_line(row))[:16]
