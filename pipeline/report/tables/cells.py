"""Printed tables, and their cells: numbers and conditions in words."""

from collections.abc import Mapping
from typing import Any

from pipeline.maths.labels import Label

EFFECTS = {"baseline": "baseline", "ablation": "ablated", "subtraction": "subtracted", "addition": "added"}


def ordered(names: Mapping[str, Any]) -> list[str]:
    """Baseline first, then each effect of the direction followed by those of its controls."""
    return sorted(
        names,
        key=lambda name: (
            Label.parse(name).kind,
            Label.parse(name).system,
            list(EFFECTS).index(Label.parse(name).effect),
            Label.parse(name).source,
        ),
    )


def condition(name: str) -> str:
    """A condition in words."""
    label = Label.parse(name)
    prompts = label.kind + (f" (system prompt: {label.system})" if label.system else "")
    if label.effect == "baseline":
        return f"{prompts}, baseline"
    what = "direction" if not label.source else label.source.replace("_", " ")
    return f"{prompts}, {what} {EFFECTS[label.effect]}"


def on_tasks(names: Mapping[str, Any]) -> dict[str, str]:
    """What was done to the model while it worked on a task, in words, baseline first: effect or effect.source."""
    order = ("baseline", "ablation", "export", "addition")
    found = {}
    for name in sorted(names, key=lambda name: ("." in name, order.index(name.partition(".")[0]))):
        effect, _, source = name.partition(".")
        done = f"{source.replace('_', ' ') or 'direction'} {EFFECTS.get(effect, effect)}"
        found[name] = done if effect in ("ablation", "addition") else effect
    return found


def interval(row: Mapping[str, Any], form: str) -> str:
    """The 95 % interval, or why there is none."""
    return (
        f"[{form.format(row['low'])}, {form.format(row['high'])}]"
        if row["low"] is not None
        else f"({row['note'] or 'none'})"
    )


def number(row: Mapping[str, Any], form: str) -> tuple[str, str, str]:
    """Value, interval and n as three cells."""
    return form.format(row["value"]), interval(row, form), str(row["n"])


def span(controls: Mapping[str, Mapping[str, Any]], form: str) -> str:
    """Smallest and largest value of the controls."""
    values = [row["value"] for row in controls.values() if row["value"] is not None]
    return f"{form.format(min(values))} to {form.format(max(values))}" if values else ""


def rank(row: Mapping[str, Any] | None) -> str:
    """Place among the controls."""
    return f"{row['rank']} of {row['n'] + 1}" if row else ""


def p(test: Mapping[str, Any] | None) -> str:
    """Corrected p-value."""
    return "" if not test else "-" if test["p_holm"] is None else f"{test['p_holm']:.2g}"


def test(test: Mapping[str, Any] | None) -> tuple[str, str]:
    """Corrected p-value and verdict."""
    return (p(test), test["verdict"]) if test else ("", "")
