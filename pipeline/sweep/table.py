"""What a sweep prints when its jobs have ended: a row for each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from pipeline import printed
from pipeline.artifacts.layout import Layout
from pipeline.disk import files
from pipeline.maths.labels import Label
from pipeline.maths.statistics import Estimate
from pipeline.printed import Shown
from pipeline.results.metrics_file import read_metrics
from pipeline.results.repeated import Over, Repeated

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


def repeated_tables(repeated: Repeated) -> Iterator[Shown]:
    """What several seeds say together, and several draws; the directions of the seeds beside each other."""
    n_seeds = sum(run.answers.draw is None for run in repeated.runs)
    yield _each(repeated)
    yield _over(f"{n_seeds} seeds, greedy answers", repeated.seeds, repeated)
    if repeated.draws.refusal_score:
        yield _over(f"{len(repeated.runs) - n_seeds} draws of sampled answers, first seed", repeated.draws, repeated)
    if repeated.cosines:
        yield _cosines(repeated)


def _each(repeated: Repeated) -> Shown:
    table = printed.table(
        f"{repeated.title}, {repeated.profile}: each run", "run", "verdict", "position, layer", *COLUMNS
    )
    for run in repeated.runs:
        name = f"seed {run.seed}" + ("" if run.answers.draw is None else f", draw {run.answers.draw}")
        place = "-" if run.position is None else f"{run.position}, {run.layer}"
        table.add_row(name, run.verdict, place, *(_rate(run.refusal_score.get(label)) for label in COLUMNS.values()))
    return table


def _over(title: str, over: Over, repeated: Repeated) -> Shown:
    is_drawn = over is repeated.draws
    last = ("sampled - greedy",) if is_drawn else ("SD between", "share between")
    columns = ("refusal score", "mean", "prompts", "answers", "lowest, highest run", "SD of runs", *last, "change")
    table = printed.table(f"{repeated.title}: {title}", *columns)
    for label, found in over.refusal_score.items():
        runs, more = found.spread, found.between
        sd = "-" if runs.sd is None else f"{runs.sd:.1%}"
        ends = [_rate(repeated.against_greedy.get(label), "+.0%")] if is_drawn else []
        if more:
            ends += ["none", "none"] if more.is_none else [_rate(more.sd, ".1%"), _rate(more.share)]
        change = over.change.get(label)
        table.add_row(
            str(label),
            _rate(found.value),
            str(found.value.n),
            str(found.n_answers),
            f"{runs.low:.0%}, {runs.high:.0%} (n = {runs.n})",
            sd,
            *ends,
            _rate(change.value if change else None, "+.0%"),
        )
    notes = ["[a, b]: 95 % interval over prompts, each of which counts once"]
    if not is_drawn:
        notes.append("between: beyond what the sampling of prompts gives, its interval over runs; none: less than that")
    table.caption = printed.caption(*notes)
    return table


def _cosines(repeated: Repeated) -> Shown:
    table = printed.table(
        f"{repeated.title}: cosine of the directions of two seeds",
        "seeds",
        "as chosen",
        "at the first's place",
        "at the second's",
    )
    for row in repeated.cosines:
        numbers = (f"{value:.3f}" for value in (row.chosen, row.at_first, row.at_second))
        table.add_row(" and ".join(map(str, row.seeds)), *numbers)
    table.caption = printed.caption(
        f"of 100 pairs of directions drawn at random 95 have less than {repeated.chance_cosine:.3f}"
    )
    return table


def _rate(rate: Estimate | None, form: str = ".0%") -> str:
    if rate is None or rate.value is None:
        return "-"
    interval = "" if rate.low is None else f" [{rate.low:{form}}, {rate.high:{form}}]"
    return f"{rate.value:{form}}{interval}"


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
