"""What the chosen direction and its controls are, and do on the test prompts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.artifacts import kinds
from pipeline.disk import files, shape
from pipeline.errors import UserError
from pipeline.maths.held_out import ScoredDirection

Rows = Mapping[str, Sequence[float]]


def write(
    path: Path,
    directions: Mapping[str, ScoredDirection],
    scores: Mapping[str, Rows],
    unchanged: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> None:
    """By direction; `unchanged`: the refusal metric of the unchanged model on harmful and on harmless prompts."""
    record = {"harmful_metric": unchanged[0], "harmless_metric": unchanged[1], "scores": scores}
    files.write_json(path, {"directions": {name: asdict(row) for name, row in directions.items()}, **record})


def read(path: Path) -> kinds.ControlScores:
    """The inverse of `write`. Raises UserError for scores of other directions or prompts than it names."""
    record: kinds.ControlScores = shape.read_record(path, kinds.ControlScores)
    harmful, harmless = len(record["harmful_metric"]), len(record["harmless_metric"])
    sizes = {"bypass": harmful, "subtraction": harmful, "induce": harmless, "kl": harmless}
    if any({name: len(rows[name]) for name in sizes} != sizes for rows in record["scores"].values()):
        raise UserError(f"{path} has scores of other prompts for one direction than for another: {shape.AGAIN}")
    if record["directions"].keys() != record["scores"].keys():
        raise UserError(f"{path} describes other directions than it scores: {shape.AGAIN}")
    return record


def require_finite(scores: Mapping[str, Rows]) -> None:
    """Raises UserError for a direction with a score that is not finite: no interval can be made from it."""
    for name, rows in scores.items():
        if bad := sum(not math.isfinite(value) for part in rows.values() for value in part):
            raise UserError(f"{name} has {bad} scores on test prompts that are not finite: use a wider engine.dtype")
