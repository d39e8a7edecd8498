"""Figures of the claim, as pure functions of numbers: refusal before and after, by length, by estimator."""

# pyright: reportUnknownMemberType=false
# Matplotlib's own annotations leave parts open.

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.display import NAME, mathless
from pipeline.maths.evaluation import is_control
from pipeline.maths.labels import BASELINE, Label, control_kind, is_null
from pipeline.maths.statistics import Estimate
from pipeline.names import ESTIMATOR_NAMES
from pipeline.report.figures.marks import BLUE, GREEN, GREY, ORANGE, PINK, finish, percent, share_axis, title_of
from pipeline.results.metrics import Metrics

TICKS = {
    "baseline": "baseline",
    "ablation": "direction\nablated",
    "subtraction": "direction\nsubtracted",
    "addition": "direction\nadded",
}
CONTROLS = {"random": ("o", "random direction"), "shuffled": ("^", "shuffled labels"), "layer": ("s", "other layer")}


def figures(metrics: Metrics, stamp: str) -> dict[str, Figure]:
    """Refusal before and after, against the length of the answer, and by estimator where there are any, by name."""
    title, judge, scores = title_of(metrics), metrics.judge, metrics.refusal_score
    lengths: dict[Label, dict[int, Estimate]] = {label: dict(rates) for label, rates in metrics.by_length.items()}
    for label, rate in scores.items():
        lengths.setdefault(label, {})[metrics.max_new_tokens] = rate
    drawn = {
        "refusal": score_bars(scores, "Refusal", "refused", judge, title, stamp),
        "length": refusal_by_length(lengths, title, judge, stamp),
    }
    if metrics.estimators:
        baselines = {kind: scores[Label(kind, BASELINE)] for kind in ("harmful", "harmless")}
        controls = {effect: _null_rates(scores, effect) for effect in ("ablation", "addition")}
        drawn["estimators"] = estimator_rates(_by_estimator(metrics), baselines, controls, title, judge, stamp)
    return drawn


def _null_rates(scores: Mapping[Label, Estimate], effect: str) -> list[Estimate]:
    """Rates of random and shuffled directions under an effect."""
    return [
        rate
        for label, rate in scores.items()
        if label.effect == effect and is_control(label.source) and is_null(label.source)
    ]


def _by_estimator(metrics: Metrics) -> dict[str, dict[str, Estimate]]:
    """Refusal score under each estimator's ablation and addition, where one was evaluated."""
    rates: dict[str, dict[str, Estimate]] = {}
    scores, kinds = metrics.refusal_score, {"ablation": "harmful", "addition": "harmless"}
    for name in (name for name in ESTIMATOR_NAMES if name in metrics.estimators):
        record = metrics.estimators[name]
        labels = {effect: Label(kind, effect, record.conditions_of) for effect, kind in kinds.items()}
        title = name.replace("_", " ") + ("" if record.chosen else " (nearest miss)")
        rates[title] = {e: scores[label] for e, label in labels.items() if record.evaluated and label in scores}
    return rates


def score_bars(scores: Mapping[Label, Estimate], what: str, share: str, judge: str, title: str, stamp: str) -> Figure:
    """Score of baseline and direction as bars, each control as a point beside them; 95 % Wilson intervals.

    `what` the score is of; `share`: the verdict whose share of completions it is.
    """
    labels = [label for label in scores if label.is_main]
    kinds = [kind for kind in ("harmful", "harmless") if any(label.kind == kind for label in labels)]
    shown = {kind: [effect for effect in TICKS if Label(kind, effect) in scores] for kind in kinds}
    widths = [len(effects) for effects in shown.values()]
    figure = Figure(figsize=(3.2 + 1.6 * sum(widths), 5.0), layout="constrained")
    axes = figure.subplots(1, len(kinds), sharey=True, width_ratios=widths, squeeze=False)[0]
    for axis, kind in zip(axes, kinds, strict=True):
        for index, effect in enumerate(shown[kind]):
            _bar(axis, index, effect, scores[Label(kind, effect)])
            _points(axis, index, {one.source: scores[one] for one in labels if _is_control(one, kind, effect)})
        axis.set_xticks(range(len(shown[kind])), [TICKS[effect] for effect in shown[kind]], fontsize=9)
        axis.set_title(f"{kind} instructions (n = {scores[Label(kind, BASELINE)].n})", fontsize=11)
        share_axis(axis)
    axes[0].set_ylabel(f"{what.lower()} score [{mathless(judge, NAME)}]\nshare of completions {share}, 95 % interval")
    _control_legend(axes[-1], labels)
    finish(figure, f"{what} before and after: {mathless(title)}", stamp)
    return figure


def _is_control(label: Label, kind: str, effect: str) -> bool:
    return (label.kind, label.effect) == (kind, effect) and bool(control_kind(label.source))


def _bar(axis: Axes, index: int, effect: str, rate: Estimate) -> None:
    axis.bar(index, rate.value or 0, color=BLUE if effect == "baseline" else ORANGE, width=0.44)
    _interval(axis, index, rate, "black", "none")
    axis.text(index, min((rate.high or 0) + 0.02, 1.02), f"{rate.value:.0%}", ha="center", va="bottom", fontsize=10)


def _points(axis: Axes, index: int, controls: Mapping[str, Estimate]) -> None:
    for place, (source, rate) in enumerate(controls.items()):
        marker, _ = CONTROLS[control_kind(source)]
        _interval(axis, index + 0.29 + 0.4 * place / max(1, len(controls)), rate, GREY, marker)


def _control_legend(axis: Axes, labels: Iterable[Label]) -> None:
    used = {control_kind(label.source) for label in labels}
    for name, (marker, text) in CONTROLS.items():
        if name in used:
            axis.plot([], [], linestyle="none", marker=marker, color=GREY, label=f"control: {text}")
    if used & CONTROLS.keys():
        axis.legend(fontsize=8, loc="upper left", frameon=False)


def _interval(axis: Axes, x: float, rate: Estimate, colour: str, marker: str) -> None:
    if rate.value is None:
        return
    errors = None if rate.low is None or rate.high is None else [[rate.value - rate.low], [rate.high - rate.value]]
    axis.errorbar(x, rate.value, errors, color=colour, capsize=3, linewidth=1.2, marker=marker, markersize=5)


def refusal_by_length(rates: Mapping[Label, Mapping[int, Estimate]], title: str, judge: str, stamp: str) -> Figure:
    """Refusal score of the completions cut after each number of tokens, with 95 % Wilson bands."""
    styles = {
        Label("harmful", "baseline"): ("harmful, baseline", BLUE, "o"),
        Label("harmful", "ablation"): ("harmful, direction ablated", ORANGE, "s"),
        Label("harmless", "addition"): ("harmless, direction added", GREEN, "^"),
        Label("harmless", "baseline"): ("harmless, baseline", PINK, "v"),
    }
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axis = figure.subplots()
    for label in (label for label in styles if label in rates):
        words, colour, marker = styles[label]
        points = {n: rate for n, rate in rates[label].items() if rate.low is not None}
        lows, values, highs = ([getattr(r, key) for r in points.values()] for key in ("low", "value", "high"))
        axis.plot(list(points), values, color=colour, marker=marker, label=words)
        axis.fill_between(list(points), lows, highs, color=colour, alpha=0.15, linewidth=0)
    lengths = sorted({n for rows in rates.values() for n in rows})
    axis.set_xscale("log", base=2)
    axis.set_xticks(lengths, [str(n) for n in lengths])
    axis.set_xlabel("generated tokens that the judge reads")
    axis.set_ylabel(f"refusal score [{mathless(judge, NAME)}], 95 % interval")
    share_axis(axis)
    axis.legend(fontsize=9, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
    finish(figure, f"Refusal against the length of the answer: {mathless(title)}", stamp)
    return figure


def estimator_rates(
    rows: Mapping[str, Mapping[str, Estimate]],
    baselines: Mapping[str, Estimate],
    controls: Mapping[str, Sequence[Estimate]],
    title: str,
    judge: str,
    stamp: str,
) -> Figure:
    """Refusal score under ablation and addition of what each estimator found, above random and shuffled directions."""
    figure = Figure(figsize=(10.5, 2.4 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    panels = {"ablation": ("harmful, ablated", "harmful"), "addition": ("harmless, added", "harmless")}
    for axis, (effect, (label, kind)) in zip(axes, panels.items(), strict=True):
        base = baselines[kind]
        axis.axvspan(base.low or 0, base.high or 0, color=BLUE, alpha=0.15, linewidth=0)
        axis.axvline(base.value or 0, color=BLUE, linewidth=1, label="baseline, 95 % interval")
        for place, rates in enumerate(rows.values()):
            _across(axis, place, rates.get(effect), ORANGE)
        for index, rate in enumerate(controls[effect]):
            _across(axis, len(rows) - 0.25 + 0.5 * index / max(1, len(controls[effect]) - 1), rate, GREY)
        axis.set_xlim(-0.02, 1.02)
        axis.xaxis.set_major_formatter(percent)
        axis.set_xlabel(f"refusal score [{mathless(judge, NAME)}]: {label}")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(
        range(len(rows) + 1), [*(mathless(row, NAME) for row in rows), "controls: random, shuffled labels"]
    )
    axes[0].invert_yaxis()
    axes[1].legend(fontsize=8, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
    finish(figure, f"Estimators on equal terms: {mathless(title)}", stamp)
    return figure


def _across(axis: Axes, place: float, rate: Estimate | None, colour: str) -> None:
    if rate is None or rate.value is None or rate.low is None or rate.high is None:
        axis.text(0.5, place, "no candidate", va="center", ha="center", fontsize=8, color=GREY)
        return
    errors = [[rate.value - rate.low], [rate.high - rate.value]]
    axis.errorbar(rate.value, place, xerr=errors, color=colour, marker="o", markersize=5, capsize=3)
