"""fresh: do dvc.lock, the configuration, the code and the committed results of every run belong together?

Needs no data. Exit status 1 when something is out of date, edited, missing or of no run, each named on a line.
"""

import sys

from pipeline.entry.arguments import Parser


def main() -> None:
    """Print every stage that is out of date, and whatever else does not belong."""
    from pipeline.graph.fresh import DRY

    if sys.argv[1:2] == [DRY]:
        from pipeline.config.params import Run
        from pipeline.graph.repro import dvc

        model, label, *overrides = sys.argv[2:]
        sys.exit(dvc(Run(model, label, tuple(overrides)), "repro", "--dry", "--allow-missing"))
    Parser(__doc__).parse_args()

    from pipeline.config.params import read_params
    from pipeline.display import plain
    from pipeline.entry.program import guarded
    from pipeline.graph.fresh import problems
    from pipeline.graph.runs import every_run
    from pipeline.report.pages import problems as edited

    def run() -> None:
        read_params()
        found = [*problems(), *edited()]
        for line in found:
            print(plain(f"FAIL {line}"))
        if found:
            sys.exit(1)
        runs = "; ".join(map(str, every_run()))
        print(f"fresh: dvc.lock, configuration, code and results belong together, of {runs}")

    guarded(run)
