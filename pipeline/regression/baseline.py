"""Committed metrics of every run held against its committed baseline, on the same prompts."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts.layout import Layout
from pipeline.config.params import Run
from pipeline.disk import files
from pipeline.maths.labels import Label
from pipeline.regression.decision import move

KEPT = ("judge", "outcomes", "prompts", "verdict")


def problems(name: str, baseline: Mapping[str, Any], metrics: Mapping[str, Any]) -> Iterator[str]:
    """One line per way in which the metrics of a run do not match its baseline; each names a difference of dtype."""
    dtypes = metrics["provenance"]["dtype"], baseline["dtype"]
    if dtypes[0] != dtypes[1]:
        name = f"{name} (in {dtypes[0]}, the baseline in {dtypes[1]})"
    yield from (f"{name}: {path} is not a finite number" for path in not_finite(metrics))
    if metrics["prompts"]["hashes"] != baseline["prompts"]["hashes"]:
        yield f"{name}: measured on other prompts than the baseline, so the two cannot be compared"
        return
    if metrics["judge"] != baseline["judge"]:
        yield f"{name}: judged by '{metrics['judge']}', the baseline by '{baseline['judge']}'"
        return
    if metrics["verdict"] != baseline["verdict"]:
        yield f"{name}: verdict is {metrics['verdict']}, was {baseline['verdict']}"
    for condition, before in baseline["outcomes"].items():
        after = metrics["outcomes"].get(condition)
        if after is None:
            yield f"{name}: {condition} was not measured"
            continue
        try:
            change = move(condition, before, after)
        except ValueError as error:
            yield f"{name}: {error}"
            continue
        if change.moved:
            yield (
                f"{name}: {condition} moved from {change.before:.0%} to {change.after:.0%} "
                f"(change {change.low:+.0%} to {change.high:+.0%}, n = {change.n})"
            )


def kept(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the baseline keeps of a model: the verdicts on baseline and chosen direction, not on every control."""
    own = {name: rows for name, rows in metrics["outcomes"].items() if not Label.parse(name).source}
    return {**{key: metrics[key] for key in KEPT}, "outcomes": own, "dtype": metrics["provenance"]["dtype"]}


def not_finite(value: Any, path: str = "metrics") -> Iterator[str]:
    """Paths of every NaN or infinity in nested JSON values."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from not_finite(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from not_finite(item, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield path


def check(runs: Sequence[Run], metrics: Mapping[Run, Path], root: Path = Path()) -> list[str]:
    """Every problem of every run, missing ones included."""
    found = []
    for run in runs:
        layout = Layout(run.model, run.label, root)
        path = metrics.get(run, layout.metrics)
        if not layout.gate_baseline.exists():
            found.append(f"{run}: {layout.gate_baseline} is missing: run `make baseline` once its numbers are agreed")
        elif not path.exists():
            found.append(f"{run}: {path} is missing")
        else:
            found.extend(problems(str(run), files.read_json(layout.gate_baseline), files.read_json(path)))
    return found


def baseline_runs(root: Path = Path()) -> list[Run]:
    """Every run that has a baseline."""
    return [Run(path.parent.name, path.stem) for path in sorted((root / "regression").glob("*/*.json"))]
