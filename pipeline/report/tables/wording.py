"""Cells of printed tables: numbers and conditions in words."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.display import TITLE, plain
from pipeline.maths.comparisons import Comparison, Rank
from pipeline.maths.labels import Label, Treatment
from pipeline.maths.statistics import Estimate
from pipeline.results.effects import Systems
from pipeline.results.origins import Answers

TESTED = ("change, 95 % interval", "p", "p (Holm)", "verdict")  # the columns of `test`
DONE = {"baseline": "baseline", "ablation": "ablated", "subtraction": "subtracted", "addition": "added"}


def estimate(row: Mapping[str, Any]) -> Estimate:
    """A number of a record that is not among the metrics."""
    return Estimate(row["value"], row["low"], row["high"], row["n"], row["note"])


def under_system(systems: Systems) -> str:
    """Under which system prompt the main evaluation was."""
    if not systems.main:
        return "without a system prompt, as its chat template writes it"
    shown = plain(systems.main, TITLE)
    return f'under the template\'s own system prompt ("{shown}")' if systems.of_template else f'under "{shown}"'


def ordered(labels: Iterable[Label]) -> list[Label]:
    """Baseline first, then each effect of the direction followed by those of its controls."""
    return sorted(labels, key=lambda one: (one.kind, one.system, list(DONE).index(one.effect), one.source))


def condition(label: Label) -> str:
    """A condition in words."""
    prompts = label.kind + (f" (system prompt: {label.system})" if label.system else "")
    if label.effect == "baseline":
        return f"{prompts}, baseline"
    what = "direction" if not label.source else label.source.replace("_", " ")
    return f"{prompts}, {what} {DONE[label.effect]}"


def answers(how: Answers) -> str:
    """How answers were made, in words."""
    if how.how == "greedy":
        return "greedy answers"
    return f"answers sampled at temperature {how.temperature}, top_p {how.top_p}, top_k {how.top_k} (draw {how.draw})"


def on_tasks(done: Iterable[Treatment]) -> dict[Treatment, str]:
    """What was done to the model while it worked on a task, in words, baseline first and controls last."""
    order = ("baseline", "ablation", "export", "addition")
    found: dict[Treatment, str] = {}
    for one in sorted(done, key=lambda one: (bool(one.source), order.index(one.effect))):
        words = f"{one.source.replace('_', ' ') or 'direction'} {DONE.get(one.effect, one.effect)}"
        found[one] = words if one.effect in ("ablation", "addition") else one.effect
    return found


def interval(row: Estimate, form: str) -> str:
    """The 95 % interval, or why there is none."""
    if row.low is None or row.high is None:
        return f"({row.note or 'none'})"
    return f"[{form.format(row.low)}, {form.format(row.high)}]"


def value(row: Estimate, form: str) -> str:
    """The point, or a dash."""
    return "-" if row.value is None else form.format(row.value)


def number(row: Estimate, form: str) -> tuple[str, str, str]:
    """Value, interval and n as three cells."""
    return value(row, form), interval(row, form), str(row.n)


def span(controls: Iterable[Estimate], form: str) -> str:
    """Smallest and largest value of the controls."""
    values = [row.value for row in controls if row.value is not None]
    return f"{form.format(min(values))} to {form.format(max(values))}" if values else ""


def rank(row: Rank | None) -> str:
    """Place among the controls."""
    return f"{row.rank} of {row.n + 1}" if row else ""


def rank_and_p(row: Rank | None) -> str:
    """The same with its p-value, of the direction's change."""
    return f"{rank(row)} (p {row.p:.2g})" if row else ""


def p(test: Comparison | None) -> str:
    """Corrected p-value."""
    return holm(test.p_holm) if test else ""


def holm(value: float | None) -> str:
    """A p-value, or a dash where nothing was tested."""
    return "-" if value is None else f"{value:.2g}"


def test(test: Comparison | None) -> tuple[str, str, str, str]:
    """Paired change with its interval, p as it is and corrected, verdict; a control's p is not corrected."""
    if test is None:
        return "", "", "", ""
    change = f"{value(test.change, '{:+.1%}')} {interval(test.change, '{:+.1%}')}"
    corrected = "" if test.p_holm is None and test.p is not None else p(test)
    return change, holm(test.p), corrected, test.verdict
