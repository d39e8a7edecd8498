"""figures: make the figures of every run, with whatever they need, and print their paths."""

from pipeline.entry.arguments import Parser


def _make() -> None:
    from pipeline.artifacts.layout import Layout
    from pipeline.errors import UserError
    from pipeline.graph.repro import dvc
    from pipeline.graph.runs import every_run

    for run in every_run():
        if dvc(run, "repro", "--allow-missing", f"figures@{run.model}-{run.label}"):
            raise UserError(f"the figures of run {run} were not made: the lines above say why")
        for path in sorted(Layout(run.model, run.label).figure("any").parent.glob("*.png")):
            print(path)


def main() -> None:
    """Command line."""
    Parser(__doc__).parse_args()

    from pipeline.entry.program import guarded
    from pipeline.graph.repro import alone, in_utf8

    in_utf8("figures")
    guarded(lambda: alone(_make))
