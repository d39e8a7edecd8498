"""Compare the committed metrics of every run with its committed baseline; exit 1 when a refusal rate moved.

A rate has moved when the 95 % interval of its paired change, on the same prompts, leaves out zero.
Missing runs, other prompts, another verdict and values that are not finite fail too.
"""

import argparse
import sys
from pathlib import Path

from pipeline.entry.arguments import Parser


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--metrics", type=Path, help="this metrics.json instead of the active run's")
    parser.add_argument("--update", action="store_true", help="make the active run's metrics its baseline")
    return parser.parse_args()


def main() -> None:
    """Check every committed run, or renew the baseline of the active one."""
    arguments = _arguments()

    from pipeline.artifacts.layout import Layout
    from pipeline.config.params import Run
    from pipeline.disk import files
    from pipeline.display import plain
    from pipeline.entry.program import guarded
    from pipeline.errors import UserError
    from pipeline.graph.runs import every_run, runs_of
    from pipeline.regression.baseline import baseline_runs, check, kept, write_baseline
    from pipeline.results.metrics_file import read_metrics

    def run() -> None:
        active = [Run(found.model, found.label) for found in runs_of(None)]
        if arguments.update:
            for one in active:
                layout = Layout(one.model, one.label)
                write_baseline(layout.gate_baseline, kept(read_metrics(layout.metrics)))
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
