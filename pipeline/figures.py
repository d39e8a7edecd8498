"""Figures as pure functions of numbers: a matplotlib figure out, no files."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.maths.selection import CandidateScores
from pipeline.maths.statistics import Estimate

# Okabe-Ito: told apart by readers with any colour vision.
COLOURS = {"baseline": "#0072B2", "intervention": "#D55E00", "control": "#999999"}
LABELS = {
    "baseline": "baseline",
    "ablation": "direction\nablated",
    "subtraction": "direction\nsubtracted",
    "addition": "direction\nadded",
    "random_ablation": "random dir.\nablated",
    "random_subtraction": "random dir.\nsubtracted",
    "random_addition": "random dir.\nadded",
}


def refusal_bars(scores: Mapping[str, Mapping[str, Estimate]], title: str, judge: str, stamp: str) -> Figure:
    """Refusal score per condition, harmful and harmless side by side, with 95 % Wilson intervals."""
    widths = [len(rows) for rows in scores.values()]
    figure = Figure(figsize=(2.6 + 1.15 * sum(widths), 4.6), layout="constrained")
    axes = figure.subplots(1, len(scores), sharey=True, width_ratios=widths, squeeze=False)[0]
    for axis, (kind, rows) in zip(axes, scores.items(), strict=True):
        _bars(axis, rows)
        n = next(iter(rows.values())).n
        axis.set_title(f"{kind} instructions (n = {n})", fontsize=11)
    axes[0].set_ylabel(f"refusal score [{judge}]\nshare of completions refused, 95 % interval")
    _finish(figure, f"Refusal before and after: {title}", stamp)
    return figure


def _bars(axis: Axes, rows: Mapping[str, Estimate]) -> None:
    for index, (name, rate) in enumerate(rows.items()):
        kind = "baseline" if name == "baseline" else "control" if name.startswith("random") else "intervention"
        axis.bar(index, rate.value, color=COLOURS[kind], width=0.7)
        errors = [[rate.value - rate.low], [rate.high - rate.value]]
        axis.errorbar(index, rate.value, errors, color="black", capsize=4, linewidth=1.2)
        axis.text(index, min(rate.high + 0.02, 1.02), f"{rate.value:.0%}", ha="center", va="bottom", fontsize=10)
    axis.set_xticks(range(len(rows)), [LABELS[name] for name in rows], fontsize=9)
    axis.set_ylim(0, 1.12)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_yticks(np.arange(0, 1.01, 0.2))
    axis.spines[["top", "right"]].set_visible(False)


def selection_heatmaps(
    scores: Sequence[CandidateScores],
    chosen: CandidateScores | None,
    baselines: tuple[float, float],
    tokens: Sequence[str],
    title: str,
    stamp: str,
) -> Figure:
    """bypass, induce and kl over position and layer; hatched cells have no direction."""
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
        figure.colorbar(image, ax=axis, label="nats", shrink=0.9)
        axis.set_title(label, fontsize=10)
        axis.set_xlabel("layer")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if chosen:
            row = chosen.position + len(tokens)
            axis.plot(chosen.layer, row, marker="*", color="#D55E00", markeredgecolor="white", markersize=15)
    axes[0].set_yticks(range(len(tokens)), [f"{i - len(tokens)}  {token!r}" for i, token in enumerate(tokens)])
    axes[0].set_ylabel("position (token)")
    star = f"star: chosen, position {chosen.position}, layer {chosen.layer}" if chosen else "no candidate chosen"
    _finish(figure, f"Candidate directions on val prompts: {title}   ({star}; hatched: no direction)", stamp)
    return figure


def _grid(scores: Sequence[CandidateScores], field: str, n_positions: int) -> np.ndarray:
    grid = np.full((n_positions, 1 + max(row.layer for row in scores)), np.nan)
    for row in scores:
        grid[row.position + n_positions, row.layer] = getattr(row, field)
    return grid


def message(text: str, title: str, stamp: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    _finish(figure, title, stamp)
    return figure


def _finish(figure: Figure, title: str, stamp: str) -> None:
    figure.suptitle(title, fontsize=12)
    figure.supxlabel(stamp, fontsize=7, color="#555555")
