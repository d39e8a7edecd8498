"""How stable the choice of a direction is, over val prompts and over train prompts."""

# pyright: reportUnknownMemberType=false
# Matplotlib's own annotations leave parts open.

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.display import LINE, mathless
from pipeline.report.figures.marks import BLUE, GREEN, GREY, ORANGE, finish, percent, positions


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
    axis.set_yticks(range(len(tokens)), positions(tokens), fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("layer")
    axis.set_ylabel("position (token)")
    n = record["n_val"]
    prompts = f"{n['harmful']} + {n['harmless']} prompts; none chosen: {none:.0%}"
    axis.set_title(
        f"share of {record['n_resamples']} resamples of val won\n({prompts})",
        fontsize=10,
    )
    figure.colorbar(image, ax=axis, shrink=0.8, format=percent)


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
    lowest: float = min(*control, *halves["draws"])
    bins = [float(edge) for edge in np.linspace(lowest, 1, 31)]
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
