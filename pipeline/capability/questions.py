"""Rows of the files that capability tasks are made of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config.measuring import CapabilityTask
from pipeline.errors import UserError
from pipeline.prompts.load import read_rows
from pipeline.sources import Artefact


def read_files(
    task: str, spec: CapabilityTask, folder: str | None, fetched: Callable[[Artefact], Path]
) -> list[dict[str, Any]]:
    """The rows that a task is made of, fetched or from files of `folder`; none where it names no file of its own."""
    if spec.places:
        paths = [fetched(Artefact(spec.file, spec.sha256, tuple(spec.places)))]
    else:
        paths = find_files(task, Path(folder or "").expanduser(), spec.file) if spec.file else []
    return [row for path in paths for row in read_questions(task, path)]


def find_files(task: str, folder: Path, pattern: str) -> list[Path]:
    """Files of `folder` that match the pattern, sorted. Raises UserError when there is none."""
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise UserError(
            f"capability task '{task}': no {folder / pattern}: set capability.folder to the folder it is in"
        )
    return paths


def read_questions(task: str, path: Path) -> list[dict[str, Any]]:
    """Every row, with the file's name as `file`. Raises UserError for a file without rows of named fields."""
    rows = [row for _, row in read_rows(path, str(path))]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"capability task '{task}': {path} holds no rows with named fields: give it JSON or CSV rows")
    return [{**row, "file": path.stem} for row in rows]
