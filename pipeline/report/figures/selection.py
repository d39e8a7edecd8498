"""The candidates' three scores over position and layer."""

# pyright: reportUnknownMemberType=false
# Matplotlib's own annotations leave parts open.

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.display import mathless
from pipeline.maths.selection import CandidateScores
from pipeline.report.figures.marks import finish, positions


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
    """bypass, induce and kl over position and layer; hatched: no direction."""
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
    axes[0].set_yticks(range(len(tokens)), positions(tokens))
    axes[0].set_ylabel("position (token)")
    star = f"star: chosen, position {chosen.position}, layer {chosen.layer}" if chosen else "no candidate chosen"
    finish(figure, f"Candidate directions on val prompts: {mathless(title)}\n{star}; hatched: no direction", stamp)
    return figure


def _grid(scores: Sequence[CandidateScores], field: str, n_positions: int) -> np.ndarray:
    grid = np.full((n_positions, 1 + max(row.layer for row in scores)), np.nan)
    for row in scores:
        grid[row.position + n_positions, row.layer] = getattr(row, field)
    return grid
