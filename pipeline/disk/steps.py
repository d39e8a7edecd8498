"""Steps of long work, each kept as it comes, so that a killed run goes on where it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.disk.rows import PartialRows


class Memo:
    """Values of named steps. A value has to be plain JSON: it is then the same from memory and from disk."""

    def __init__(self, path: Path):
        """Read what an interrupted run left."""
        self.partial = PartialRows(path)
        self.values: dict[str, Any] = {row["step"]: row["value"] for row in self.partial.rows}

    def __call__(self, step: str, compute: Callable[[], Any]) -> Any:
        """The value of a step: from disk, or computed now."""
        if step not in self.values:
            self.values[step] = compute()
            self.partial.append([{"step": step, "value": self.values[step]}])
        return self.values[step]

    def discard(self) -> None:
        """Remove the file once all values stand in an artefact."""
        self.partial.discard()
