"""Rows of the files that capability tasks are made of."""

from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.prompts.load import read_rows


def find_files(task: str, folder: Path, pattern: str) -> list[Path]:
    """Files of `folder` that match the pattern, sorted. Raises UserError when there is none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise UserError(
            f"capability task '{task}': no {folder / pattern}: set capability.folder to the folder it is in"
        )
    return found


def read_questions(task: str, path: Path) -> list[dict[str, Any]]:
    """Every row, with the file's name as `file`. Raises UserError for a file without rows of named fields."""
    rows = [row for _, row in read_rows(path, str(path))]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"capability task '{task}': {path} holds no rows with named fields: give it JSON or CSV rows")
    return [{**row, "file": path.stem} for row in rows]
