"""Committed metrics of every run held against its committed baseline, on the same prompts."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.artifacts.layout import Layout
from pipeline.config.params import Run
from pipeline.disk import files
from pipeline.errors import UserError
from pipeline.maths.comparisons import Outcomes
from pipeline.regression.decision import move
from pipeline.results.metrics import Metrics
from pipeline.results.metrics_file import as_record, read_metrics
from pipeline.results.origins import Prompts
from pipeline.results.values import Condition


@dataclass(frozen=True)
class Baseline:
    """What is kept of a run: the verdicts on its baseline and its chosen direction, not on every control."""

    judge: str
    """Of refusal."""
    verdict: str
    """Of the selection."""
    dtype: str
    outcomes: dict[Condition, Outcomes]
    """Whether each prompt is refused, by its id; None is unknown."""
    prompts: Prompts


def kept(metrics: Metrics) -> Baseline:
    """A baseline of metrics."""
    own = {label: rows for label, rows in metrics.outcomes.items() if not label.source}
    return Baseline(metrics.judge, metrics.verdict, metrics.provenance.dtype, own, metrics.prompts)


def write_baseline(path: Path, baseline: Baseline) -> None:
    """As JSON, sorted by key."""
    files.write_json(path, as_record(baseline))


def read_baseline(path: Path) -> Baseline:
    """What `write_baseline` wrote. Raises UserError for anything else."""
    record = files.read_object(path)
    try:
        return TypeAdapter(Baseline).validate_python(record)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = ".".join(map(str, found["loc"]))
        raise UserError(
            f"{path} is no baseline ({where}: {found['msg']}): make it again with `make baseline`"
        ) from None


def problems(name: str, baseline: Baseline, metrics: Metrics) -> Iterator[str]:
    """One line per way in which the metrics of a run do not match its baseline; each names a difference of dtype."""
    if metrics.provenance.dtype != baseline.dtype:
        name = f"{name} (in {metrics.provenance.dtype}, the baseline in {baseline.dtype})"
    if metrics.prompts.hashes != baseline.prompts.hashes:
        yield f"{name}: measured on other prompts than the baseline, so the two cannot be compared"
        return
    if metrics.judge != baseline.judge:
        yield f"{name}: judged by '{metrics.judge}', the baseline by '{baseline.judge}'"
        return
    if metrics.verdict != baseline.verdict:
        yield f"{name}: verdict is {metrics.verdict}, was {baseline.verdict}"
    for label, before in baseline.outcomes.items():
        after = metrics.outcomes.get(label)
        if after is None:
            yield f"{name}: {label} was not measured"
            continue
        try:
            change = move(str(label), before, after)
        except ValueError as error:
            yield f"{name}: {error}"
            continue
        if change.moved:
            yield (
                f"{name}: {label} moved from {change.before:.0%} to {change.after:.0%} "
                f"(change {change.low:+.0%} to {change.high:+.0%}, n = {change.n})"
            )


def not_finite(value: Any, path: str = "metrics") -> Iterator[str]:
    """Paths of every NaN or infinity in nested JSON values."""
    if isinstance(value, Mapping):
        for key, item in cast(Mapping[str, Any], value).items():
            yield from not_finite(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(cast(list[Any], value)):
            yield from not_finite(item, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield path


def check(runs: Sequence[Run], metrics: Mapping[Run, Path], root: Path = Path()) -> list[str]:
    """Every problem of every run, missing ones included."""
    changes: list[str] = []
    for run in runs:
        layout = Layout(run.model, run.label, root)
        path = metrics.get(run, layout.metrics)
        if not layout.gate_baseline.exists():
            changes.append(f"{run}: {layout.gate_baseline} is missing: run `make baseline` once its numbers are agreed")
        elif not path.exists():
            changes.append(f"{run}: {path} is missing")
        elif wrong := list(not_finite(files.read_object(path))):
            changes.extend(f"{run}: {place} is not a finite number" for place in wrong)
        else:
            changes.extend(problems(str(run), read_baseline(layout.gate_baseline), read_metrics(path)))
    return changes


def baseline_runs(root: Path = Path()) -> list[Run]:
    """Every run that has a baseline."""
    return [Run(path.parent.name, path.stem) for path in sorted((root / "regression").glob("*/*.json"))]
