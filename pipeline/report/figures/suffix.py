"""Figures of the suffix analysis (paper, section 5) as pure functions of its record: figures out, no files."""

# pyright: reportUnknownMemberType=false
# Matplotlib's own annotations leave parts open.

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.display import mathless
from pipeline.report.figures.marks import BLUE, GREEN, GREY, ORANGE, finish

# kind -> (label, colour, marker): told apart by shape as well as by colour.
KINDS = {
    "harmful": ("harmful, no suffix", BLUE, "o"),
    "adversarial": ("harmful + adversarial suffix", ORANGE, "s"),
    "random": ("harmful + random suffix", GREY, "^"),
    "harmless": ("harmless", GREEN, "v"),
}
REGIONS = {"before": "template\nbefore", "instruction": "instruction", "suffix": "suffix", "after": "template\nafter"}


def figures(record: Mapping[str, Any], title: str, stamp: str) -> dict[str, Figure]:
    """Every figure by name; none when the analysis was not made."""
    if "cosine" not in record:
        return {}
    drawn: dict[str, tuple[str, Callable[[Mapping[str, Any]], Figure]]] = {
        "cosine": ("Alignment with the refusal direction, with and without suffix", cosine_over_layers),
        "heads": ("What the heads that write the refusal direction write", head_bars),
        "attention": ("Where the heads that write the refusal direction look", attention_by_region),
        "restoration": ("How much refusal returns when parts are as without suffix", restoration_panels),
    }
    found: dict[str, Figure] = {}
    for name, (headline, draw) in drawn.items():
        found[f"suffix_{name}"] = figure = draw(record)
        finish(figure, f"{headline}: {mathless(title)}\n{_caption(record)}", stamp)
    return found


def _caption(record: Mapping[str, Any]) -> str:
    changes = record["metric"]["changes"]
    effect, random = (changes[f"{kind}_against_none"]["change"]["value"] for kind in ("adversarial", "random"))
    works = "lowers refusal"
    if record["verdict"] != "suffix_lowers_refusal":
        works = "does NOT lower refusal below both no suffix and a random one, so it explains no bypass"
    return (
        f"suffix {mathless(str(record['chosen']))} of {mathless(record['source'])} {works}\n"
        f"change of the refusal metric {effect:+.1f} nats, by a random suffix {random:+.1f}; "
        f"{record['n']['harmful']} refused prompts"
    )


def cosine_over_layers(record: Mapping[str, Any]) -> Figure:
    """Mean cosine of resid_pre at the last token with the direction, with 95 % intervals, over layers."""
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    axis = figure.subplots()
    for kind, (label, colour, marker) in KINDS.items():
        lows, values, highs = _columns(record["cosine"]["values"][kind])
        axis.plot(values, color=colour, marker=marker, markersize=4, label=label)
        axis.fill_between(range(len(values)), lows, highs, color=colour, alpha=0.2, linewidth=0)
    axis.axvline(record["layer"], color="black", linestyle=":", linewidth=1, label="layer of the direction")
    axis.axhline(0, color="black", linewidth=0.5)
    axis.set_xlabel("layer (input of block)")
    axis.set_ylabel("cosine of residual stream and refusal direction\nlast token of the prompt, mean and 95 % interval")
    left, layers = len(record["cosine"]["random_outside"]), len(record["cosine"]["values"]["harmful"])
    where = f"leaves it at {left} of {layers} layers" if left else f"stays inside at all {layers} layers"
    axis.set_title(f"interval of 'harmful, no suffix': the mean of 'random suffix' {where}", fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axis)
    axis.legend(fontsize=9, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
    return figure


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float], list[float]]:
    """low, value and high; a point without interval stands for all three."""
    values = [row["value"] for row in rows]
    lows, highs = ([row["value"] if row[key] is None else row[key] for row in rows] for key in ("low", "high"))
    return lows, values, highs


def head_bars(record: Mapping[str, Any]) -> Figure:
    """What each top head writes along the direction at the last token, without and with suffix."""
    heads = record["heads"]
    figure = Figure(figsize=(6.5 + 0.95 * (len(heads) + 1), 5.0), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[len(heads), 1.4])
    _bars(left, [f"L{row['layer']}\nH{row['head']}" for row in heads], [row["values"] for row in heads], KINDS)
    _bars(right, ["all of these heads"], [record["heads_sum"]["values"]], KINDS)
    left.set_xlabel("heads that write most along it without suffix (L layer, H head)")
    left.set_ylabel("written along the refusal direction at the last token\nmean and 95 % interval")
    handles, labels = left.get_legend_handles_labels()
    right.legend(handles, labels, fontsize=9, frameon=False, bbox_to_anchor=(1.02, 1), loc="upper left")
    return figure


def attention_by_region(record: Mapping[str, Any]) -> Figure:
    """Attention of the last token on the regions of the prompt, averaged over the top heads."""
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    axis = figure.subplots()
    kinds = record["attention"]["values"]
    rows = [{kind: kinds[kind][region] for kind in KINDS} for region in REGIONS]
    _bars(axis, list(REGIONS.values()), rows, KINDS)
    axis.set_ylim(0, 1)
    axis.set_xlabel("part of the prompt that is looked at (template: the chat format's own tokens)")
    axis.set_ylabel(f"share of attention from the last token, mean\nof {len(record['heads'])} top heads, 95 % interval")
    axis.legend(fontsize=9, frameon=False, bbox_to_anchor=(1.02, 1), loc="upper left")
    return figure


def _bars(axis: Axes, names: Sequence[str], rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, Any]) -> None:
    width = 0.8 / len(kinds)
    for index, (kind, (label, colour, marker)) in enumerate(kinds.items()):
        places = np.arange(len(names)) + (index - (len(kinds) - 1) / 2) * width
        lows, values, highs = _columns([row[kind] for row in rows])
        axis.bar(places, values, width=0.9 * width, color=colour, alpha=0.75, label=label)
        errors = np.maximum(0, [np.subtract(values, lows), np.subtract(highs, values)])
        axis.errorbar(
            places, values, errors, color="black", linestyle="none", marker=marker, markersize=3, capsize=2, linewidth=1
        )
    axis.axhline(0, color="black", linewidth=0.5)
    axis.set_xticks(range(len(names)), names, fontsize=9)
    _plain(axis)


def restoration_panels(record: Mapping[str, Any]) -> Figure:
    """How much of the fall of the refusal metric comes back when parts are put back to what they are without suffix."""
    figure = Figure(figsize=(12.5, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.1, 1])
    rows, fall = record["restoration"], record["metric"]["changes"]["adversarial_against_none"]["change"]
    shown = {
        "top_heads": f"outputs of the {len(record['heads'])} top heads",
        "top_heads/last_token": "the same, last token only",
        "random_heads": "outputs of as many random heads,\neach draw",
        "all_heads": "outputs of every head (all there is)",
        "component": "component along the direction,\nevery layer",
        "component/last_token": "the same, last token only",
        "random_direction": "component along a random direction,\neach draw",
    }
    for place, name in enumerate(shown):
        for offset, row in _group(rows, name):
            _across(left, place + offset, row["against_suffix"]["change"], ORANGE if offset == 0 else GREY)
    left.set_yticks(range(len(shown)), list(shown.values()), fontsize=9)
    left.invert_yaxis()
    left.set_xlabel("refusal metric: put back - with suffix, nats\nmean over prompts and 95 % interval")
    left.set_title("put back at the template's tokens after the instruction", fontsize=10)
    layers = sorted(int(name.split("/")[1]) for name in rows if name.startswith("component_at/"))
    lows, values, highs = _columns([rows[f"component_at/{layer}"]["against_suffix"]["change"] for layer in layers])
    right.plot(layers, values, color=ORANGE, marker="s", markersize=4)
    right.fill_between(layers, lows, highs, color=ORANGE, alpha=0.2, linewidth=0)
    right.set_title("component along the direction put back at one layer alone", fontsize=10)
    right.set_xlabel("layer (input of block)")
    right.set_ylabel("refusal metric: put back - with suffix, nats\nmean and 95 % interval")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis, line, span in ((left, left.axvline, left.axvspan), (right, right.axhline, right.axhspan)):
        line(0, color="black", linewidth=0.8)
        line(
            -fall["value"],
            color=BLUE,
            linestyle="--",
            linewidth=1,
            label="without suffix: all that was lost",
        )
        if fall["low"] is not None:
            span(-fall["high"], -fall["low"], color=BLUE, alpha=0.12, linewidth=0)
        _plain(axis)
    right.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure


def _group(rows: Mapping[str, Any], name: str) -> list[tuple[float, Any]]:
    """A restoration at its place, or the draws of a control spread about it."""
    if name in rows:
        return [(0.0, rows[name])]
    draws = [rows[key] for key in rows if key.startswith(f"{name}/") and key.split("/")[1].isdigit()]
    return [(0.01 - 0.35 + 0.7 * index / max(1, len(draws) - 1), row) for index, row in enumerate(draws)]


def _across(axis: Axes, place: float, row: Mapping[str, Any], colour: str) -> None:
    [low], [value], [high] = _columns([row])
    axis.errorbar(value, place, xerr=[[value - low], [high - value]], color=colour, marker="o", markersize=4, capsize=2)


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
