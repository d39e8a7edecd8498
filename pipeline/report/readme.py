"""Tables of README.md and docs/ that are made of committed results."""

import csv
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from io import StringIO
from pathlib import Path

from pipeline.artifacts.layout import Layout
from pipeline.disk.files import read_text
from pipeline.maths.labels import Label, Treatment, control_kind
from pipeline.maths.statistics import Estimate
from pipeline.report import beside
from pipeline.report.markdown import Row, rate, table
from pipeline.report.tables import wording
from pipeline.results.effects import Export
from pipeline.results.metrics import Metrics
from pipeline.results.metrics_file import read_metrics

SHOWN = Layout("qwen2_5_coder_0_5b", "standard")  # the run that the pages show
FAMILIES = Path("outputs/families/families.csv")
MAIN = {
    Label("harmful", "baseline"): "harmful, baseline",
    Label("harmful", "ablation"): "harmful, direction ablated",
    Label("harmful", "subtraction"): "harmful, direction subtracted",
    Label("harmless", "baseline"): "harmless, baseline",
    Label("harmless", "addition"): "harmless, direction added",
}
FURTHER = {  # prompts, and system prompt
    ("contrast-safe", ""): "look harmful, are not",
    ("borderline", ""): "harmless, sensitive subject",
    ("contrast-unsafe", ""): "unsafe contrasts",
    ("harmful", "none"): "harmful, empty system prompt",
    ("harmful", "safety"): "harmful, safety system prompt",
    ("harmless", "none"): "harmless, empty system prompt",
    ("harmless", "safety"): "harmless, safety system prompt",
}
DRAWN = {
    "random": "random directions",
    "covariance": "of the covariance",
    "shuffled": "shuffled labels, less its part along r",
}
TASKS = {"commonsense_qa_text": "CommonsenseQA, by text", "piqa": "PIQA"}


class Committed:
    """The committed results below a folder that the pages show, each read once."""

    def __init__(self, root: Path = Path()) -> None:
        self.root = root

    @cached_property
    def metrics(self) -> Metrics:
        """Of the run that the pages show."""
        return read_metrics(self.root / SHOWN.metrics)


def _controls(rates: Mapping[Label, Estimate], of: Label, kind: str) -> str:
    found = [label for label in wording.ordered(rates) if control_kind(label.source) == kind]
    same = [label for label in found if (label.kind, label.effect, label.system) == (of.kind, of.effect, of.system)]
    return " ".join(wording.value(rates[label], "{:.0%}") for label in same)


def _claim(metrics: Metrics) -> str:
    """The first table that a reader sees: what was done, what it did, and what null directions do instead."""
    rates = metrics.refusal_score
    done = {"baseline": "unchanged", "ablation": "direction taken out", "subtraction": "direction subtracted"}
    rows = (
        (
            label.kind,
            done.get(label.effect, "direction added"),
            rate(rates[label]),
            str(rates[label].n),
            *(_controls(rates, label, kind) for kind in ("random", "covariance")),
        )
        for label in MAIN
        if label in rates
    )
    columns = ("requests", "model", "refused, 95 % interval", "n", "random directions instead")
    return table((*columns, "random, of the model's own variance"), rows)


def _refusal(metrics: Metrics) -> str:
    rates = metrics.refusal_score
    layer = next(label.source for label in rates if control_kind(label.source) == "layer").replace("_", " ")
    ranked = ["rank"] if any(rates[label].rank for label in MAIN) else []
    columns = (f"[{metrics.judge}], 95 % interval", *ranked, "p (Holm)", *DRAWN.values())
    others = [f"[{name}]" for name in metrics.other_judges]
    rows = (
        (
            title,
            rate(rates[label]),
            *([wording.rank(rates[label].rank)] if ranked else []),
            wording.p(metrics.comparisons.get(label)),
            *(_controls(rates, label, kind) for kind in (*DRAWN, "layer")),
            *(rate(judged.get(label)) for judged in metrics.other_judges.values()),
        )
        for label, title in MAIN.items()
    )
    return table(("refusal score", *columns, layer, *others), rows)


def _exported(metrics: Metrics) -> str:
    return table(("export", "value", "n"), _export(metrics.export))


def _export(export: Export) -> Iterable[Row]:
    assert export.max_cosine_before is not None, "the run that is shown has an export"
    assert export.max_cosine_after is not None
    n, against = f"{export.n_prompts} prompts", "export against live ablation"
    answers = f"{export.greedy_equal} equal, {export.greedy_ties} ties, {export.greedy_different} different"
    before, after = max(export.max_cosine_before), max(export.max_cosine_after)
    yield f"{against}: equal greedy answers, {export.n_tokens} tokens", answers, n
    yield f"{against}: largest logit difference", f"{export.logit_difference_max:.1e}", n
    title = "largest abs(cos) of any `resid_pre` with the direction, before and after the edit"
    yield title, f"{before:.2f}, {after:.0e}", n


def _direction(metrics: Metrics) -> str:
    found = metrics.selection
    assert found.chosen is not None, "the run that is shown has a direction"
    place = f"position {found.chosen.position}, layer {found.chosen.layer}"
    return (
        f"The direction is that of {place}, chosen by rule `{found.rule}` from {found.n_candidates} "
        f"candidates, of which it kept {found.n_kept}.\n"
    )


def _safety(metrics: Metrics) -> str:
    [(judge, found)] = metrics.safety.items()
    columns = (f"safety_score[{judge}]", "value, 95 % interval", "p (Holm)", *DRAWN.values())
    rows = (
        (
            title,
            rate(found.score[label]),
            wording.p(found.comparisons.get(label)),
            *(_controls(found.score, label, kind) for kind in DRAWN),
        )
        for label, title in MAIN.items()
    )
    return table(columns, rows)


def _further(metrics: Metrics) -> str:
    rates = metrics.refusal_score
    rows = (
        (title, *(rate(rates.get(Label(kind, effect, system=system))) for effect in wording.DONE))
        for (kind, system), title in FURTHER.items()
    )
    return table(("prompts", *wording.DONE.values()), rows)


def _capability(metrics: Metrics) -> str:
    conditions = {
        Treatment("baseline"): "baseline",
        Treatment("ablation"): "ablated, live",
        Treatment("export"): "ablated, export",
        Treatment("addition"): "added",
        Treatment("ablation", "random_0"): "random direction ablated",
    }
    tasks = metrics.capability.tasks
    rows = (
        (title, f"{tasks[name].chance:.0%}", *(rate(tasks[name].score.get(done)) for done in conditions))
        for name, title in TASKS.items()
    )
    return table(("task", "chance", *conditions.values()), rows)


def _families(committed: Committed) -> str:
    columns = {
        "model_types": "`model_type`",
        "export - ablation, logits": "export − ablation, logits",
        "ablation - baseline, logits": "ablation − baseline",
        "greedy equal": "greedy equal",
        "addition as weights, layer 0": "addition as weights, layer 0",
        "addition as weights, layer 2": "layer 2",
        "writers edited": "writers edited",
    }
    rows = [row for row in csv.DictReader(StringIO(read_text(committed.root / FAMILIES))) if row["family"] != "tiny"]
    return table(("family", *columns.values()), ((_family(row), *(row[key] for key in columns)) for row in rows))


def _family(row: Mapping[str, str]) -> str:
    return row["family"] if row["equal to ablation"] == "exact" else f"**{row['family']}** (not equal)"


def of_run(make: Callable[[Metrics], str]) -> Callable[[Committed], str]:
    """A maker that takes the metrics of the run which the pages show."""
    return lambda committed: make(committed.metrics)


MAKERS: dict[str, Callable[[Committed], str]] = {
    "claim": of_run(_claim),
    "refusal": of_run(_refusal),
    "exported": of_run(_exported),
    "direction": of_run(_direction),
    "safety": of_run(_safety),
    "further": of_run(_further),
    "capability": of_run(_capability),
    **{name: of_run(make) for name, make in beside.MAKERS.items()},
    "families": _families,
}
