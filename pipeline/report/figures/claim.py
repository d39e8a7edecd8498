"""Figures as pure functions of numbers: a matplotlib figure out, no files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from pipeline.display import LINE, NAME, mathless
from pipeline.maths.labels import BASELINE, Label, control_kind
from pipeline.maths.selection import CandidateScores
from pipeline.maths.statistics import Estimate

# Okabe-Ito: told apart by readers with any colour vision.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
TICKS = {
    "baseline": "baseline",
    "ablation": "direction\nablated",
    "subtraction": "direction\nsubtracted",
    "addition": "direction\nadded",
}
CONTROLS = {"random": ("o", "random direction"), "shuffled": ("^", "shuffled labels"), "layer": ("s", "other layer")}


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
        _share_axis(axis)
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


def _share_axis(axis: Axes) -> None:
    axis.set_ylim(0, 1.12)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_yticks(np.arange(0, 1.01, 0.2))
    axis.spines[["top", "right"]].set_visible(False)


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
    _share_axis(axis)
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
        for place, found in enumerate(rows.values()):
            _across(axis, place, found.get(effect), ORANGE)
        for index, rate in enumerate(controls[effect]):
            _across(axis, len(rows) - 0.25 + 0.5 * index / max(1, len(controls[effect]) - 1), rate, GREY)
        axis.set_xlim(-0.02, 1.02)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
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


def stability_panels(record: Mapping[str, Any], tokens: Sequence[str], title: str, stamp: str) -> Figure:
    """Win frequency map; cosine of split halves; cosine and effect against the number of train prompts."""
    widths = [1.4, 1, 0.9, 1.1] if record["learning_curve"] else [1.4, 1]
    figure = Figure(figsize=(3.64 * sum(widths), 5.2), layout="constrained")
    axes = figure.subplots(1, len(widths), width_ratios=widths)
    _win_map(figure, axes[0], record, tokens)
    _split_halves(axes[1], record["split_half_cosine"])
    if record["learning_curve"]:
        _learning_curves(axes[2], axes[3], record["learning_curve"], record["baselines"])
    finish(figure, f"How stable the choice is: {mathless(title)}", stamp)
    return figure


def _win_map(figure: Figure, axis: Axes, record: Mapping[str, Any], tokens: Sequence[str]) -> None:
    won = [row for row in record["wins"] if row["layer"] is not None]
    none = sum(row["share"] for row in record["wins"] if row["layer"] is None)
    first, last = min(row["layer"] for row in won), max(row["layer"] for row in won)
    grid = np.zeros((len(tokens), last - first + 3))
    for row in won:
        grid[row["position"] + len(tokens), row["layer"] - first + 1] = row["share"]
    extent = (first - 1.5, last + 1.5, len(tokens) - 0.5, -0.5)
    image = axis.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto", extent=extent)
    for row in won:
        if row["share"] >= 0.005:
            colour = "black" if row["share"] > 0.5 else "white"
            axis.text(
                row["layer"],
                row["position"] + len(tokens),
                f"{row['share']:.0%}",
                ha="center",
                va="center",
                fontsize=8,
                color=colour,
            )
    axis.set_yticks(range(len(tokens)), _positions(tokens), fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("layer")
    axis.set_ylabel("position (token)")
    n = record["n_val"]
    prompts = f"{n['harmful']} + {n['harmless']} prompts; none chosen: {none:.0%}"
    axis.set_title(
        f"share of {record['n_resamples']} resamples of val won\n({prompts})",
        fontsize=10,
    )
    figure.colorbar(image, ax=axis, shrink=0.8, format=lambda value, _: f"{value:.0%}")


def _positions(tokens: Sequence[str]) -> list[str]:
    """Places counted from the end, each with its token."""
    return [f"{i - len(tokens)}  {mathless(repr(token), NAME)}" for i, token in enumerate(tokens)]


def _split_halves(axis: Axes, halves: Mapping[str, Any]) -> None:
    axis.set_title("cosine of the directions\nof two random halves of train", fontsize=10)
    axis.set_xlabel("cosine")
    axis.spines[["top", "right"]].set_visible(False)
    if "draws" not in halves:
        axis.text(
            0.5, 0.5, mathless(halves["note"], LINE), ha="center", va="center", wrap=True, transform=axis.transAxes
        )
        return
    control = halves["shuffled_labels"]["draws"]
    bins = np.linspace(min(*control, *halves["draws"]), 1, 31).tolist()
    axis.hist(halves["draws"], bins=bins, color=BLUE, label=f"mean {halves['mean']:.2f}")
    axis.hist(control, bins=bins, color=GREY, alpha=0.7, label="control: shuffled labels")
    axis.legend(fontsize=8, frameon=False, loc="upper left")
    sizes = halves["n_prompts"]
    axis.set_ylabel(f"splits ({halves['n']}), {sizes['harmful']} + {sizes['harmless']} prompts a half")


def _learning_curves(
    left: Axes, right: Axes, curve: Sequence[Mapping[str, Any]], baselines: Mapping[str, float]
) -> None:
    sizes = sorted({row["n"] for row in curve if row["n"] is not None})
    whole = next(row for row in curve if row["n"] is None)
    n_all = min(whole["n_harmful"], whole["n_harmless"])
    x = [row["n"] or n_all for row in curve]
    left.plot(x, [row["cosine"] for row in curve], "o", color=BLUE, markersize=5)
    left.set_ylabel("cosine with the direction of all prompts")
    left.set_ylim(top=1.02)
    right.plot(x, [row["bypass"] for row in curve], "s", color=ORANGE, markersize=5, label="harmful, ablated (bypass)")
    right.plot(x, [row["induce"] for row in curve], "^", color=GREEN, markersize=5, label="harmless, added (induce)")
    right.axhline(baselines["harmful"], color=ORANGE, linestyle="--", linewidth=1, label="harmful, unchanged model")
    right.axhline(baselines["harmless"], color=GREEN, linestyle=":", linewidth=1, label="harmless, unchanged model")
    right.set_ylabel("refusal metric on val, nats")
    right.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xticks([*sizes, n_all], [*map(str, sizes), "all"])
        axis.set_xlabel("train prompts per class")
        axis.spines[["top", "right"]].set_visible(False)
    left.set_title("learning curve: direction\n(a point: a random draw)", fontsize=10)
    right.set_title("learning curve: effect\n(a point: a random draw)", fontsize=10)


class Chosen(Protocol):
    """Where a direction is from."""

    @property
    def position(self) -> int: ...

    @property
    def layer(self) -> int: ...


def selection_heatmaps(
    scores: Sequence[CandidateScores],
    chosen: Chosen | None,
    baselines: tuple[float, float],
    tokens: Sequence[str],
    title: str,
    stamp: str,
) -> Figure:
    """bypass, induce and kl over position and layer; hatched: no direction; dotted: measured on some prompts alone."""
    harmful, harmless = baselines
    panels = {
        "bypass": f"bypass: refusal metric, harmful, ablated\n(baseline {harmful:.1f}; lower removes refusal)",
        "induce": f"induce: refusal metric, harmless, added\n(baseline {harmless:.1f}; higher induces refusal)",
        "kl": "KL(baseline || ablated), harmless\n(lower leaves the rest alone)",
    }
    figure = Figure(figsize=(15, 1.9 + 0.42 * len(tokens)), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for axis, (field, label) in zip(axes, panels.items(), strict=True):
        grid = _grid(scores, field, len(tokens))
        image = axis.imshow(grid, aspect="auto", cmap="cividis", interpolation="nearest")
        axis.set_facecolor("white")
        axis.patch.set(hatch="////", edgecolor="lightgrey")
        _dotted(axis, scores, len(tokens))
        figure.colorbar(image, ax=axis, label="nats", shrink=0.9)
        axis.set_title(label, fontsize=10)
        axis.set_xlabel("layer")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if chosen:
            row = chosen.position + len(tokens)
            axis.plot(chosen.layer, row, marker="*", color="#D55E00", markeredgecolor="white", markersize=15)
    axes[0].set_yticks(range(len(tokens)), _positions(tokens))
    axes[0].set_ylabel("position (token)")
    star = f"star: chosen, position {chosen.position}, layer {chosen.layer}" if chosen else "no candidate chosen"
    stopped = "; dotted: stopped early, mean of the prompts seen" if any(row.stopped for row in scores) else ""
    finish(
        figure, f"Candidate directions on val prompts: {mathless(title)}\n{star}; hatched: no direction{stopped}", stamp
    )
    return figure


def _dotted(axis: Axes, scores: Sequence[CandidateScores], n_positions: int) -> None:
    for row in scores:
        if row.stopped:
            corner = (row.layer - 0.5, row.position + n_positions - 0.5)
            axis.add_patch(Rectangle(corner, 1, 1, facecolor="none", edgecolor="white", hatch="..", linewidth=0))


def _grid(scores: Sequence[CandidateScores], field: str, n_positions: int) -> np.ndarray:
    grid = np.full((n_positions, 1 + max(row.layer for row in scores)), np.nan)
    for row in scores:
        grid[row.position + n_positions, row.layer] = getattr(row, field)
    return grid


def message(text: str, title: str, stamp: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    figure.text(0.5, 0.5, mathless(text, LINE), ha="center", va="center", wrap=True)
    finish(figure, mathless(title), stamp)
    return figure


def finish(figure: Figure, title: str, stamp: str) -> None:
    """Title above, in which names are `mathless`; provenance below."""
    figure.suptitle(title, fontsize=12)
    figure.supxlabel("\n".join(mathless(line, LINE) for line in stamp.split("\n")), fontsize=6.5, color="#555555")
