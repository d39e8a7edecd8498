"""Figures of what changed besides refusal: further sets, system prompts, capability."""

# pyright: reportUnknownMemberType=false
# Matplotlib's own annotations leave parts open.

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.display import NAME, mathless
from pipeline.maths.labels import Label
from pipeline.maths.statistics import Estimate
from pipeline.report.figures.claim import score_bars
from pipeline.report.figures.marks import BLUE, GREEN, ORANGE, PINK, finish, percent, title_of
from pipeline.report.tables.wording import on_tasks
from pipeline.results.metrics import Metrics

# Colour and marker both tell an effect, so that a grey print does too.
STYLES = {
    "baseline": ("baseline", BLUE, "o"),
    "ablation": ("direction ablated", ORANGE, "s"),
    "subtraction": ("direction subtracted", PINK, "v"),
    "addition": ("direction added", GREEN, "^"),
}


def figures(metrics: Metrics, stamp: str) -> dict[str, Figure]:
    """Safety by each judge, further sets and system prompts, capability, by name: each that was measured."""
    title = title_of(metrics)
    drawn = {
        f"safety_{judge}": score_bars(safety.score, safety.comparisons, "Safety", "judged safe", judge, title, stamp)
        for judge, safety in metrics.safety.items()
    }
    further = {label: rate for label, rate in metrics.refusal_score.items() if not label.is_main}
    if further:
        headline = f"Refusal of contrast prompts and under system prompts: {mathless(title)}"
        drawn["further"] = further_rates(further, headline, metrics.judge, stamp)
    if tasks := metrics.capability.tasks:
        rates = {
            name: {words: task.score[done] for done, words in on_tasks(task.score).items()}
            for name, task in tasks.items()
        }
        chance = {name: task.chance for name, task in tasks.items()}
        drawn["capability"] = capability_scores(rates, chance, f"Capability: {mathless(title)}", stamp)
    return drawn


def further_rates(scores: Mapping[Label, Estimate], headline: str, judge: str, stamp: str) -> Figure:
    """Refusal score on every further set and under every system prompt: a row each, a point per effect, 95 % intervals.

    Sets that a model should answer lie above those that it should refuse only if the caller orders them so.
    """
    rows = list(dict.fromkeys(map(_row, scores)))
    figure = Figure(figsize=(8.5, 1.8 + 0.75 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for effect, (text, colour, marker) in STYLES.items():
        rates = {_row(label): rate for label, rate in scores.items() if label.effect == effect}
        offset = 0.18 * (list(STYLES).index(effect) - 1.5)
        _points(axis, [(rows.index(row) + offset, rate) for row, rate in rates.items()], colour, marker, text)
    axis.set_yticks(range(len(rows)), [f"{_words(*row)} (n = {_n(scores, row)})" for row in rows])
    axis.invert_yaxis()
    _share(axis, f"refusal score [{mathless(judge, NAME)}]: share of completions refused, 95 % interval")
    finish(figure, headline, stamp)
    return figure


def _row(label: Label) -> tuple[str, str]:
    return label.kind, label.system


def _words(kind: str, system: str) -> str:
    return mathless(kind, NAME) + (f"\nsystem prompt: {mathless(system, NAME)}" if system else "")


def _n(scores: Mapping[Label, Estimate], row: tuple[str, str]) -> int:
    return max(rate.n for label, rate in scores.items() if _row(label) == row)


def capability_scores(
    tasks: Mapping[str, Mapping[str, Estimate]], chance: Mapping[str, float | None], headline: str, stamp: str
) -> Figure:
    """Score of every condition on each task with its 95 % interval; a dashed line where guessing would lie."""
    figure = Figure(figsize=(8.5, 1.6 + 1.5 * len(tasks)), layout="constrained")
    axes: list[Axes] = list(figure.subplots(len(tasks), 1, squeeze=False, sharex=True)[:, 0])
    for axis, (task, rates) in zip(axes, tasks.items(), strict=True):
        _points(axis, list(enumerate(rates.values())), BLUE, "o", "")
        axis.set_yticks(range(len(rates)), [mathless(words, NAME) for words in rates], fontsize=8)
        axis.set_ylim(len(rates) - 0.5, -0.5)
        axis.set_title(f"{mathless(task)} (n = {max(rate.n for rate in rates.values())})", fontsize=10, loc="left")
        guess = chance[task]
        if guess:
            axis.axvline(guess, color="black", linestyle="--", linewidth=1)
            axis.text(guess, len(rates) - 0.55, " guessing", fontsize=7, va="bottom")
    for axis in axes:
        _share(axis, "")
    _share(axes[-1], "score, 95 % interval")
    finish(figure, headline, stamp)
    return figure


def _points(axis: Axes, points: Sequence[tuple[float, Estimate]], colour: str, marker: str, label: str) -> None:
    known = [(place, rate) for place, rate in points if rate.value is not None]
    for number, (place, rate) in enumerate(known):
        value = rate.value or 0.0
        errors = None if rate.low is None or rate.high is None else [[value - rate.low], [rate.high - value]]
        axis.errorbar(
            value, place, xerr=errors, color=colour, marker=marker, markersize=5, capsize=2.5, linewidth=1.2,
            linestyle="none", label=label if number == 0 and label else None,
        )  # fmt: skip


def _share(axis: Axes, label: str) -> None:
    axis.set_xlim(-0.02, 1.02)
    axis.xaxis.set_major_formatter(percent)
    axis.set_xlabel(label)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=8, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
