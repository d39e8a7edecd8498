"""Answers to capability tasks: a row per task while they are made, a row per item once they are."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.capability.maths import Answer
from pipeline.disk import files


def task_row(task: str, answers: Mapping[str, Answer], value: float | None, stderr: float | None) -> dict[str, Any]:
    """A finished task: one line of a partial file, so that it is there whole or not at all."""
    items = [{"item": item, **asdict(answer)} for item, answer in answers.items()]
    return {"task": task, "harness": {"value": value, "stderr": stderr}, "items": items}


def read_answers(row: Mapping[str, Any]) -> dict[str, Answer]:
    """Answers by item of a finished task."""
    return {
        item["item"]: Answer(item["value"], item["answer"], tuple(item["log_likelihoods"])) for item in row["items"]
    }


def write_items(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows {task, item, value, answer, log_likelihoods} of one condition."""
    files.write_jsonl(path, [{"task": row["task"], **item} for row in rows for item in row["items"]])
