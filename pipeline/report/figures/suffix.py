"""Figures of the suffix analysis (paper, section 5) as pure functions of its values: figures out, no files."""

# pyright: reportUnknownMemberType=false
# Matplotlib's own annotations leave parts open.

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.display import mathless
from pipeline.maths.statistics import Estimate
from pipeline.report.figures.marks import BLUE, GREEN, GREY, ORANGE, finish
from pipeline.results.suffix import Analysis, Measure, Measured, Restored

# kind -> (label, colour, marker): told apart by shape as well as by colour.
KINDS = {
    "harmful": ("harmful, no suffix", BLUE, "o"),
    "adversarial": ("harmful + adversarial suffix", ORANGE, "s"),
    "random": ("harmful + random suffix", GREY, "^"),
    "harmless": ("harmless", GREEN, "v"),
}
REGIONS = {"before": "template\nbefore", "instruction": "instruction", "suffix": "suffix", "after": "template\nafter"}


def figures(measured: Measured, title: str, stamp: str) -> dict[str, Figure]:
    """Every figure by name, of the suffix of each objective."""
    drawn: dict[str, tuple[str, Callable[[Measured, Analysis], Figure]]] = {
        "cosine": ("Alignment with the refusal direction, with and without suffix", cosine_over_layers),
        "heads": ("What the heads that write the refusal direction write", head_bars),
        "attention": ("Where the heads that write the refusal direction look", attention_by_region),
        "restoration": ("How much refusal returns when parts are as without suffix", restoration_panels),
    }
    found: dict[str, Figure] = {}
    for objective, analysis in measured.analyses.items():
        for name, (headline, draw) in drawn.items():
            found[f"suffix_{objective}_{name}"] = figure = draw(measured, analysis)
            finish(figure, f"{headline}: {mathless(title)}\n{_caption(measured, analysis)}", stamp)
    return found


def _caption(measured: Measured, analysis: Analysis) -> str:
    effect = analysis.effect
    changes = (effect.metric.adversarial_against_none.change, effect.metric.random_against_none.change)
    values, n = [0.0 if change.value is None else change.value for change in changes], measured.n.harmful
    works = "lowers refusal"
    if effect.verdict != "suffix_lowers_refusal":
        works = "does NOT lower refusal below both no suffix and a random one, so it explains no bypass"
    searched = mathless(f", searched by '{effect.target}'") if effect.target else ""
    return (
        f"suffix {analysis.chosen} of {mathless(measured.source)}, objective {mathless(effect.objective)}{searched}, "
        f"{works}\nchange of the refusal metric {values[0]:+.1f} nats, by a random suffix {values[1]:+.1f}; "
        f"{n} refused prompts"
    )


def cosine_over_layers(measured: Measured, analysis: Analysis) -> Figure:
    """Mean cosine of resid_pre at the last token with the direction, with 95 % intervals, over layers."""
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    axis = figure.subplots()
    for kind, (label, colour, marker) in KINDS.items():
        lows, values, highs = _columns([getattr(row, kind) for row in analysis.cosine])
        axis.plot(values, color=colour, marker=marker, markersize=4, label=label)
        axis.fill_between(range(len(values)), lows, highs, color=colour, alpha=0.2, linewidth=0)
    axis.axvline(measured.layer, color="black", linestyle=":", linewidth=1, label="layer of the direction")
    axis.axhline(0, color="black", linewidth=0.5)
    axis.set_xlabel("layer (input of block)")
    axis.set_ylabel("cosine of residual stream and refusal direction\nlast token of the prompt, mean and 95 % interval")
    left, layers = len(analysis.random_outside), len(analysis.cosine)
    where = f"leaves it at {left} of {layers} layers" if left else f"stays inside at all {layers} layers"
    axis.set_title(f"interval of 'harmful, no suffix': the mean of 'random suffix' {where}", fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axis)
    axis.legend(fontsize=9, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
    return figure


def _columns(rows: Sequence[Estimate]) -> tuple[list[float], list[float], list[float]]:
    """low, value and high; a point without interval stands for all three, a missing one is not drawn."""
    values = [np.nan if row.value is None else row.value for row in rows]
    lows, highs = (
        [value if end is None else end for value, end in zip(values, ends, strict=True)]
        for ends in ([row.low for row in rows], [row.high for row in rows])
    )
    return lows, values, highs


def head_bars(_measured: Measured, analysis: Analysis) -> Figure:
    """What each top head writes along the direction at the last token, without and with suffix."""
    heads = analysis.heads
    figure = Figure(figsize=(6.5 + 0.95 * (len(heads) + 1), 5.0), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[len(heads), 1.4])
    _bars(left, [f"L{row.layer}\nH{row.head}" for row in heads], [row.written for row in heads])
    _bars(right, ["all of these heads"], [analysis.effect.heads_sum])
    left.set_xlabel("heads that write most along it without suffix (L layer, H head)")
    left.set_ylabel("written along the refusal direction at the last token\nmean and 95 % interval")
    handles, labels = left.get_legend_handles_labels()
    right.legend(handles, labels, fontsize=9, frameon=False, bbox_to_anchor=(1.02, 1), loc="upper left")
    return figure


def attention_by_region(_measured: Measured, analysis: Analysis) -> Figure:
    """Attention of the last token on the regions of the prompt, averaged over the top heads."""
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    axis = figure.subplots()
    _bars(axis, list(REGIONS.values()), [getattr(analysis.effect.attention, region) for region in REGIONS])
    axis.set_ylim(0, 1)
    axis.set_xlabel("part of the prompt that is looked at (template: the chat format's own tokens)")
    axis.set_ylabel(f"share of attention from the last token, mean\nof {len(analysis.heads)} top heads, 95 % interval")
    axis.legend(fontsize=9, frameon=False, bbox_to_anchor=(1.02, 1), loc="upper left")
    return figure


def _bars(axis: Axes, names: Sequence[str], rows: Sequence[Measure]) -> None:
    width = 0.8 / len(KINDS)
    for index, (kind, (label, colour, marker)) in enumerate(KINDS.items()):
        places = np.arange(len(names)) + (index - (len(KINDS) - 1) / 2) * width
        lows, values, highs = _columns([getattr(row, kind) for row in rows])
        axis.bar(places, values, width=0.9 * width, color=colour, alpha=0.75, label=label)
        errors = np.maximum(0, [np.subtract(values, lows), np.subtract(highs, values)])
        axis.errorbar(
            places, values, errors, color="black", linestyle="none", marker=marker, markersize=3, capsize=2, linewidth=1
        )
    axis.axhline(0, color="black", linewidth=0.5)
    axis.set_xticks(range(len(names)), names, fontsize=9)
    _plain(axis)


def restoration_panels(_measured: Measured, analysis: Analysis) -> Figure:
    """How much of the fall of the refusal metric comes back when parts are put back to what they are without suffix."""
    figure = Figure(figsize=(12.5, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.1, 1])
    found, fall = analysis.restoration, analysis.effect.metric.adversarial_against_none.change
    shown: dict[str, tuple[list[Restored], str]] = {
        f"outputs of the {len(analysis.heads)} top heads": ([found.top_heads], ORANGE),
        "outputs of the top heads, last token only": ([found.top_heads_last], ORANGE),
        "outputs of as many random heads,\neach draw": (found.random_heads, GREY),
        "outputs of every head (all there is)": ([found.all_heads], ORANGE),
        "component along the direction,\nevery layer": ([found.component], ORANGE),
        "component, last token only": ([found.component_last], ORANGE),
        "component along a random direction,\neach draw": (found.random_directions, GREY),
    }
    for place, (rows, colour) in enumerate(shown.values()):
        spread = np.linspace(-0.35, 0.35, len(rows)) if len(rows) > 1 else np.zeros(1)
        for offset, row in zip(spread, rows, strict=False):
            _across(left, place + float(offset), row.against_suffix.change, colour)
    left.set_yticks(range(len(shown)), list(shown), fontsize=9)
    left.invert_yaxis()
    left.set_xlabel("refusal metric: put back - with suffix, nats\nmean over prompts and 95 % interval")
    left.set_title("put back at the template's tokens after the instruction", fontsize=10)
    lows, values, highs = _columns([row.against_suffix.change for row in found.component_at])
    layers = range(len(values))
    right.plot(layers, values, color=ORANGE, marker="s", markersize=4)
    right.fill_between(layers, lows, highs, color=ORANGE, alpha=0.2, linewidth=0)
    right.set_title("component along the direction put back at one layer alone", fontsize=10)
    right.set_xlabel("layer (input of block)")
    right.set_ylabel("refusal metric: put back - with suffix, nats\nmean and 95 % interval")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    [low], [value], [high] = _columns([fall])
    for axis, line, span in ((left, left.axvline, left.axvspan), (right, right.axhline, right.axhspan)):
        line(0, color="black", linewidth=0.8)
        line(-value, color=BLUE, linestyle="--", linewidth=1, label="without suffix: all that was lost")
        span(-high, -low, color=BLUE, alpha=0.12, linewidth=0)
        _plain(axis)
    right.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure


def _across(axis: Axes, place: float, row: Estimate, colour: str) -> None:
    [low], [value], [high] = _columns([row])
    axis.errorbar(value, place, xerr=[[value - low], [high - value]], color=colour, marker="o", markersize=4, capsize=2)


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
