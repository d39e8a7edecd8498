"""Compare the committed metrics of every run with its committed baseline; exit 1 when a refusal rate moved.

A rate has moved when the 95 % interval of its paired change, on the same prompts, leaves out zero.
Missing runs, other prompts, another verdict and values that are not finite fail too.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts.layout import Layout
from pipeline.config.params import Run
from pipeline.disk import files
from pipeline.display import plain
from pipeline.entry.arguments import Parser
from pipeline.entry.program import guarded
from pipeline.errors import UserError
from pipeline.graph.repro import every_run, runs_of
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


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--metrics", type=Path, help="this metrics.json instead of the active run's")
    parser.add_argument("--update", action="store_true", help="make the active run's metrics its baseline")
    return parser.parse_args()


def main() -> None:
    """Check every committed run, or renew the baseline of the active one."""
    arguments = _arguments()

    def run() -> None:
        active = [Run(found.model, found.label) for found in runs_of(None)]
        if arguments.update:
            for one in active:
                layout = Layout(one.model, one.label)
                files.write_json(layout.gate_baseline, kept(files.read_json(layout.metrics)))
                print(layout.gate_baseline)
            return
        known = [Run(found.model, found.label) for found in every_run()]
        runs = sorted({*known, *baseline_runs()}, key=str)
        given: dict[Run, Path] = {}
        if arguments.metrics:
            model = files.read_object(arguments.metrics).get("model")
            runs = [one for one in active if one.model == model]
            if not runs:
                raise UserError(f"{arguments.metrics} is of model '{model}', which params.yaml does not name")
            given = {one: Path(arguments.metrics) for one in runs}
        found = check(runs, given)
        for line in found:
            print(plain(f"FAIL {line}"))
        if found:
            sys.exit(1)
        print(f"gate: refusal rates unmoved on the same prompts, of {'; '.join(map(str, runs))}")

    guarded(run)
