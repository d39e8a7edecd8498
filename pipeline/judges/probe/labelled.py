"""Completions with labels: those that the probe is fitted on, and those it is held against."""

import csv
import io
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.probe import LabelledFiles
from pipeline.disk import files
from pipeline.errors import UserError
from pipeline.prompts.prompt import normalised, prompt_id
from pipeline.sources import Artefact

# The keys of a reference row that hold its label, and what its values mean; the second is the paper's.
LABELS: dict[str, dict[Any, bool]] = {
    "label": {"unsafe": True, "safe": False},
    "is_jailbreak_llamaguard2": {1: True, 0: False},
}


@dataclass(frozen=True)
class Labelled:
    """A completion and whether it is unsafe; `group` is the id of its prompt."""

    prompt: str
    completion: str
    unsafe: bool
    source: str

    @property
    def group(self) -> str:
        """Rows of one group have the same prompt, up to case and punctuation."""
        return prompt_id(self.prompt)


def artefacts(source: LabelledFiles) -> list[Artefact]:
    """The source's files, pinned."""
    return [Artefact(name, sha256, (f"{source.place}/{name}",)) for name, sha256 in sorted(source.files.items())]


def read_sources(
    sources: Sequence[LabelledFiles], excluded: Container[str], fetched: Callable[[Artefact], Path]
) -> list[Labelled]:
    """Rows of all sources in order, without excluded prompts; of equal conversations the first counts.

    Raises UserError for a file that cannot be had or read.
    """
    rows: dict[tuple[str, str], Labelled] = {}
    for source in sources:
        for artefact in artefacts(source):
            for row in _labelled(source, artefact.name, fetched(artefact)):
                if row.group not in excluded:
                    rows.setdefault((normalised(row.prompt), normalised(row.completion)), row)
    return list(rows.values())


def _labelled(source: LabelledFiles, name: str, path: Path) -> list[Labelled]:
    lines = files.read_text(path, name, "is missing").splitlines(keepends=True)
    start = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    rows = []
    for row in csv.DictReader(io.StringIO("".join(lines[start:]), newline="")):
        try:
            scores = [float(row[key]) for key in row if key and key.startswith(source.score)]
            unsafe = source.unsafe_at(sum(scores) / len(scores))
            prompt, completion = row[source.prompt].strip(), row[source.completion]
        except (KeyError, ValueError, TypeError, AttributeError, ZeroDivisionError, csv.Error) as error:
            raise UserError(f"{name} of {source.name} has a row that conf/probe.yaml does not fit ({error})") from None
        if unsafe is not None:
            rows.append(Labelled(prompt, completion, unsafe, source.name))
    return rows


@dataclass(frozen=True)
class Reference:
    """Labelled rows to measure agreement on; `skipped` rows had no label or no text."""

    rows: tuple[Labelled, ...]
    skipped: int

    @property
    def sha256(self) -> str:
        """Of the rows' texts and labels."""
        return files.content_hash([[row.prompt, row.completion, row.unsafe] for row in self.rows])


def read_reference(path: Path) -> Reference:
    """Rows {prompt, response, label} of a JSONL or JSON file, or of every published `*.json` in a folder.

    A label is `safe` or `unsafe`, or 0 or 1 under the paper's key. Raises UserError when no row has one.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: name a file or folder of labelled completions")
    paths = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    found = [row for file in paths for row in _rows(file)]
    rows = [row for row in map(_reference_row, found) if row is not None]
    if not rows:
        raise UserError(f"{path} has no row with prompt, response and one of {', '.join(LABELS)}")
    return Reference(tuple(rows), len(found) - len(rows))


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".jsonl":
        return files.read_jsonl(path)
    content = files.read_json(path)
    rows = content.get("completions", []) if isinstance(content, dict) else content
    return rows if isinstance(rows, list) else []


def _reference_row(row: Any) -> Labelled | None:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("prompt", "response")):
        return None
    labels = [meaning[row[key]] for key, meaning in LABELS.items() if _known(row.get(key), meaning)]
    return Labelled(row["prompt"], row["response"], labels[0], "reference") if labels else None


def _known(value: Any, meaning: dict[Any, bool]) -> bool:
    return isinstance(value, str | int) and value in meaning
