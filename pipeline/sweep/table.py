"""What a sweep prints when its jobs have ended: a row for each."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from pipeline.artifacts.layout import Layout
from pipeline.disk import files
from pipeline.maths.labels import Label
from pipeline.maths.statistics import Estimate
from pipeline.printed import Shown
from pipeline.results.metrics_file import read_metrics

RECORD = "job.json"
COLUMNS = {
    "harmful, baseline": Label("harmful", "baseline"),
    "ablated": Label("harmful", "ablation"),
    "harmless, baseline": Label("harmless", "baseline"),
    "added": Label("harmless", "addition"),
}


def sweep_table(jobs: list[dict[str, Any]]) -> Shown:
    """A row per job: verdict, direction, and refusal scores with 95 % intervals."""
    table = Shown(title="refusal scores with 95 % intervals", title_justify="left")
    for name in ("model", "overrides", "verdict", "position, layer", *COLUMNS):
        table.add_column(name, overflow="fold")
    for job in jobs:
        metrics = read_metrics(Layout(job["models"][0], job["profile"], Path(job["folder"])).metrics)
        chosen = metrics.selection.chosen
        place = f"{chosen.position}, {chosen.layer}" if chosen else "-"
        rates = [_rate(metrics.refusal_score.get(label)) for label in COLUMNS.values()]
        table.add_row(job["models"][0], " ".join(job["overrides"]) or "-", metrics.verdict, place, *rates)
    return table


def _rate(rate: Estimate | None) -> str:
    return f"{rate.value:.0%} [{rate.low:.0%}, {rate.high:.0%}]" if rate else "-"


class PrintTable(Callback):
    """Prints one table when every job of a sweep, or a single run, has ended."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Read the record that each job left in its Hydra folder."""
        records = sorted(Path(config.hydra.sweep.dir).glob(f"*/{RECORD}"), key=lambda path: int(path.parent.name))
        self._print([files.read_json(path) for path in records])

    def on_run_end(self, config: DictConfig, **_: Any) -> None:
        """The same for a run without -m."""
        record = Path(config.hydra.run.dir) / RECORD
        self._print([files.read_json(record)] if record.exists() else [])

    def _print(self, jobs: list[dict[str, Any]]) -> None:
        if jobs:
            Console(width=150).print(sweep_table(jobs))
