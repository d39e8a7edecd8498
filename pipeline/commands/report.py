"""Print the tables of a run: of the one that params.yaml names, or of the metrics files given."""

from pathlib import Path

from pipeline.artifacts.layout import Layout
from pipeline.config.params import read_params
from pipeline.entry.arguments import Parser
from pipeline.entry.program import guarded
from pipeline.report.tables.claim import closing, text


def main() -> None:
    """Command line."""
    parser = Parser(__doc__)
    parser.add_argument("metrics", nargs="*", type=Path, help="metrics.json files (default: the run of params.yaml)")
    parser.add_argument("--profile", help="this run's (PROFILE or PROFILE-NAME) instead of that of params.yaml")
    arguments = parser.parse_args()

    def run() -> None:
        params = read_params()
        label = arguments.profile or params.label
        paths = arguments.metrics or [Layout(model, label).metrics for model in params.models]
        for path in paths:
            print(text(path), end="")
        if not arguments.metrics:
            print(closing(label), end="")

    guarded(run)
