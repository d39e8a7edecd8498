"""repro: run every stage that is out of date, and print the results.

The same as `dvc repro`, but for a run that params.yaml need not name: --profile is for this call alone. What a run
makes is kept under its own label, so that runs stand side by side.
"""

from collections.abc import Sequence

from pipeline.entry.arguments import Parser


def _run(label: str | None, targets: Sequence[str], force: bool) -> None:
    from pipeline.artifacts.layout import Layout
    from pipeline.config.labels import require_name
    from pipeline.errors import UserError
    from pipeline.graph.repro import dvc
    from pipeline.graph.runs import runs_of
    from pipeline.report.tables.claim import closing, text

    for run in runs_of(label):
        layout = Layout(run.model, run.label)
        before = layout.report.stat().st_mtime_ns if layout.report.exists() else 0
        named = [f"{require_name('stage', target)}@{run.model}-{run.label}" for target in targets]
        if dvc(run, "repro", *(["--force"] if force else []), *named):
            raise UserError(f"run {run} failed: the lines above say where; `make repro` goes on there")
        if not targets and before and layout.report.stat().st_mtime_ns == before:
            print(text(layout.metrics) + closing(run.label), end="")


def main() -> None:
    """Command line."""
    parser = Parser(__doc__)
    parser.add_argument("stages", nargs="*", help="stages of the run, with what they need (default: all)")
    parser.add_argument("--profile", help="PROFILE or PROFILE-NAME instead of that of params.yaml")
    parser.add_argument("--force", action="store_true", help="run stages that are up to date as well")
    arguments = parser.parse_args()

    from pipeline.entry.program import guarded
    from pipeline.graph.repro import alone, in_utf8

    in_utf8("repro")
    guarded(lambda: alone(lambda: _run(arguments.profile, arguments.stages, arguments.force)))
