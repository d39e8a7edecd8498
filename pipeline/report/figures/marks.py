"""What every figure has: its colours, its title with what it was made from, and the marks that several share."""

# pyright: reportUnknownMemberType=false
# Matplotlib's own annotations leave parts open.

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.display import LINE, NAME, mathless
from pipeline.results.metrics import Metrics

# Okabe-Ito: told apart by readers with any colour vision.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"


def title_of(metrics: Metrics) -> str:
    """The model's title, and that its answers are no greedy ones where that is so."""
    return metrics.title if metrics.answers.how == "greedy" else f"{metrics.title}, sampled answers"


def percent(value: float, _position: float) -> str:
    """A share as an axis prints it."""
    return f"{value:.0%}"


def share_axis(axis: Axes) -> None:
    """Shares from 0 to 100 %, upwards."""
    axis.set_ylim(0, 1.12)
    axis.yaxis.set_major_formatter(percent)
    axis.set_yticks(np.arange(0, 1.01, 0.2))
    axis.spines[["top", "right"]].set_visible(False)


def positions(tokens: Sequence[str]) -> list[str]:
    """Places counted from the end, each with its token."""
    return [f"{i - len(tokens)}  {mathless(repr(token), NAME)}" for i, token in enumerate(tokens)]


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
