"""The direction beside its controls on test prompts, as a pure function of numbers."""

# pyright: reportUnknownMemberType=false
# Matplotlib's own annotations leave parts open.

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.display import mathless
from pipeline.maths.held_out import METRICS, RANKED
from pipeline.maths.labels import CONTROLS, control_kind
from pipeline.maths.statistics import Estimate
from pipeline.report.figures.marks import BLUE, GREY, ORANGE, finish, title_of
from pipeline.report.tables import wording
from pipeline.report.tables.held_out import PROMPTS, metrics_of
from pipeline.results.choosing import HeldOutScores, MetricScore
from pipeline.results.metrics import Metrics

ROWS = {
    "direction": "the direction",
    "random": "random directions",
    "covariance": "drawn from the\nactivations' covariance",
    "shuffled": "shuffled labels, less\ntheir part along it",
    "layer": "another layer's direction\n(not a null)",
}


def figures(metrics: Metrics, stamp: str) -> dict[str, Figure]:
    """Changes of the refusal metric under the direction and each control; nothing without a direction."""
    return {"controls": changes(metrics.test_scores, title_of(metrics), stamp)} if metrics.test_scores else {}


def changes(scores: HeldOutScores, title: str, stamp: str) -> Figure:
    """A panel for each effect: the mean paired change under the direction and under each control, 95 % intervals."""
    there = {control_kind(source) for source in scores.bypass.controls}
    rows = ["direction", *(kind for kind in CONTROLS if kind in there)]
    figure = Figure(figsize=(12.5, 2.2 + 0.75 * len(rows)), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, len(METRICS), sharey=True))
    for axis, (name, score) in zip(axes, metrics_of(scores).items(), strict=True):
        _panel(axis, score, rows)
        axis.set_title("\n".join([_head(name, score), *_ranks(score)]), fontsize=9)
        axis.set_xlabel("change of the refusal metric from the\nunchanged model, nats: mean, 95 % interval", fontsize=9)
    axes[0].set_yticks(range(len(rows)), [ROWS[row] for row in rows], fontsize=9)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    finish(figure, f"The direction and its controls on test prompts: {mathless(title)}", stamp)
    return figure


def _head(name: str, score: MetricScore) -> str:
    return f"{PROMPTS[name]} prompts (n = {score.direction.change.n}), {wording.DONE[METRICS[name]]}"


def _ranks(score: MetricScore) -> list[str]:
    ranks = {kind: score.ranks[kind] for kind in RANKED if kind in score.ranks}
    return [f"rank, {kind}: {wording.rank_and_p(rank)}" for kind, rank in ranks.items()] or ["no rank: few controls"]


def _panel(axis: Axes, score: MetricScore, rows: list[str]) -> None:
    axis.axvline(0, color=BLUE, linewidth=1)
    _point(axis, 0, score.direction.change, ORANGE)
    for place, kind in enumerate(rows[1:], start=1):
        found = [moved.change for source, moved in score.controls.items() if control_kind(source) == kind]
        for index, change in enumerate(sorted(found, key=lambda row: row.value or 0)):
            offset = 0.7 * (index / (len(found) - 1) - 0.5) if len(found) > 1 else 0.0
            _point(axis, place + offset, change, GREY)
    axis.spines[["top", "right"]].set_visible(False)


def _point(axis: Axes, place: float, row: Estimate, colour: str) -> None:
    if row.value is None:
        return
    errors = None if row.low is None or row.high is None else [[row.value - row.low], [row.high - row.value]]
    axis.errorbar(row.value, place, xerr=errors, color=colour, marker="o", markersize=3.5, capsize=1.5, linewidth=1)
