"""Figures of the claim, as pure functions of numbers: refusal before and after, and by length."""

# pyright: reportUnknownMemberType=false
# Matplotlib's own annotations leave parts open.

from collections.abc import Iterable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.display import NAME, mathless
from pipeline.maths.comparisons import Comparison
from pipeline.maths.labels import BASELINE, Label, control_kind
from pipeline.maths.statistics import Estimate
from pipeline.report.figures.marks import BLUE, GREEN, GREY, ORANGE, PINK, finish, share_axis, title_of
from pipeline.results.metrics import Metrics

TICKS = {
    "baseline": "baseline",
    "ablation": "direction\nablated",
    "subtraction": "direction\nsubtracted",
    "addition": "direction\nadded",
}
CONTROLS = {
    "random": ("o", "random direction"),
    "covariance": ("D", "of the activations' covariance"),
    "shuffled": ("^", "shuffled labels"),
    "layer": ("s", "other layer"),
}


def figures(metrics: Metrics, stamp: str) -> dict[str, Figure]:
    """Refusal before and after, and against the length of the answer, by name."""
    title, judge, scores = title_of(metrics), metrics.judge, metrics.refusal_score
    lengths: dict[Label, dict[int, Estimate]] = {label: dict(rates) for label, rates in metrics.by_length.items()}
    for label, rate in scores.items():
        lengths.setdefault(label, {})[metrics.max_new_tokens] = rate
    drawn = {
        "refusal": score_bars(scores, metrics.comparisons, "Refusal", "refused", judge, title, stamp),
        "length": refusal_by_length(lengths, title, judge, stamp),
    }
    return drawn


def score_bars(
    scores: Mapping[Label, Estimate],
    tests: Mapping[Label, Comparison],
    what: str,
    share: str,
    judge: str,
    title: str,
    stamp: str,
) -> Figure:
    """Score of baseline and direction as bars with Wilson's 95 % intervals, each control as a point beside them.

    A control's interval is that of its paired change, put on the baseline's score (dashed): it moved where it leaves
    the line out. `what` the score is of; `share`: the verdict whose share of completions it is.
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
            controls = [one for one in labels if _is_control(one, kind, effect)]
            _points(axis, index, {one.source: _moved(scores, tests.get(one), one) for one in controls})
        axis.axhline(scores[Label(kind, BASELINE)].value or 0, color=BLUE, linewidth=0.8, linestyle="--", zorder=0)
        axis.set_xticks(range(len(shown[kind])), [TICKS[effect] for effect in shown[kind]], fontsize=9)
        axis.set_title(f"{kind} instructions (n = {scores[Label(kind, BASELINE)].n})", fontsize=11)
        share_axis(axis)
    axes[0].set_ylabel(f"{what.lower()} score [{mathless(judge, NAME)}]\nshare of completions {share}, 95 % interval")
    _control_legend(axes[-1], labels)
    finish(figure, f"{what} before and after: {mathless(title)}", stamp)
    return figure


def _is_control(label: Label, kind: str, effect: str) -> bool:
    return (label.kind, label.effect) == (kind, effect) and bool(control_kind(label.source))


def _moved(scores: Mapping[Label, Estimate], test: Comparison | None, label: Label) -> Estimate:
    """A control's score with the interval of its paired change, on its baseline's score."""
    before, change = scores[label.baseline].value, test.change if test else None
    if before is None or change is None or change.low is None or change.high is None or change.value is None:
        return scores[label]
    return Estimate(before + change.value, before + change.low, before + change.high, change.n)


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
            axis.plot([], [], linestyle="none", marker=marker, color=GREY, label=text)
    if used & CONTROLS.keys():
        title = "controls, with the\ninterval of their change:"
        axis.legend(
            title=title, fontsize=8, title_fontsize=8, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left"
        )


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
