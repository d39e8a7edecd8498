"""Tables of what changed besides refusal: safety, over-refusal, system prompts, attack success, capability."""

from collections.abc import Iterator, Mapping

from rich.table import Table

from pipeline import printed
from pipeline.report.tables import wording
from pipeline.results.effects import Capability, Reliability, Safety
from pipeline.results.metrics import Metrics


def tables(metrics: Metrics) -> Iterator[Table]:
    """Every such table that the metrics have numbers for."""
    yield from (safety_table(judge, record) for judge, record in metrics.safety.items())
    if any(not label.is_main for label in metrics.refusal_score):
        yield further_table(metrics)
    if metrics.attacks:
        yield attacks_table(metrics)
    if metrics.capability.tasks:
        yield capability_table(metrics.capability)


def safety_table(judge: str, record: Safety) -> Table:
    """Share of safe completions of every condition, with what is known of the judge below."""
    name = f"safety_score[{judge}]"
    table = printed.table(name, "condition", name, "95 % interval", "n", *wording.TESTED)
    for label in wording.ordered(record.score):
        test = wording.test(record.comparisons.get(label))
        table.add_row(wording.condition(label), *wording.number(record.score[label], "{:.1%}"), *test)
    notes = list(reliability(judge, record.reliability))
    if unknown := {label: count for label, count in record.unknown.items() if count}:
        notes.append("no verdict: " + ", ".join(f"{wording.condition(n)} {count}" for n, count in unknown.items()))
    table.caption = printed.caption(*notes)
    return table


def reliability(judge: str, known: Mapping[str, Mapping[str, Reliability]]) -> Iterator[str]:
    """Lines on how far the judge agrees with references on completions that it was not fitted on."""
    if not known:
        yield f"{judge}: its agreement with people was not measured here"
        return
    yield f"agreement of {judge} with references that it was not fitted on:"
    for name, parts in known.items():
        for part, found in parts.items():
            yield (
                f"  {name}, {part}, n = {found.n}: "
                f"kappa {wording.value(found.kappa, '{:.2f}')} {wording.interval(found.kappa, '{:.2f}')}, "
                f"AUROC {wording.value(found.auroc, '{:.2f}')} {wording.interval(found.auroc, '{:.2f}')}"
            )


def further_table(metrics: Metrics) -> Table:
    """Refusal on the further sets and under other system prompts; each beside its own baseline."""
    name = f"refusal score [{metrics.judge}]"
    table = printed.table("further sets and system prompts", name, "value", "95 % interval", "n", *wording.TESTED)
    scores, last = metrics.refusal_score, None
    for label in (label for label in wording.ordered(scores) if not label.is_main):
        if last and label.baseline != last:
            table.add_section()
        last = label.baseline
        test = wording.test(metrics.comparisons.get(label))
        table.add_row(wording.condition(label), *wording.number(scores[label], "{:.1%}"), *test)
    table.caption = printed.caption(
        f"the main evaluation is {wording.under_system(metrics.systems)}",
        *(f"system prompt {name} not measured: {reason}" for name, reason in metrics.systems.not_measured.items()),
    )
    return table


def capability_table(record: Capability) -> Table:
    """Task scores of every condition on the same questions, and whether the export answers as the ablated model."""
    table = printed.table(
        f"capability, lm-eval, {record.dtype}",
        "task, condition",
        "score",
        "95 % interval",
        "n",
        *wording.TESTED,
    )
    notes: list[str] = []
    for task, scores in record.tasks.items():
        for done, words in wording.on_tasks(scores.score).items():
            label, row = f"{task} ({scores.metric}), {words}", scores.score[done]
            table.add_row(label, *wording.number(row, "{:.1%}"), *wording.test(scores.change.get(done)))
        table.add_section()
        notes.append(f"{task}: {scores.source}" + (f"; chance {scores.chance:.0%}" if scores.chance else ""))
        if equal := scores.export_equals_ablation:
            notes[-1] += f"; export and live ablation differ in {equal.different_answers} of {equal.n} answers"
    if record.export_missing:
        notes.append(f"no export: {record.export_missing}")
    table.caption = printed.caption(*notes)
    return table


def attacks_table(metrics: Metrics) -> Table:
    """Attack success by category of prompt, beside the paper's where the model is the same."""
    table = printed.table(
        "attack success: completions judged unsafe",
        "prompts, judge",
        "category",
        "value",
        "95 % interval",
        "n",
        "paper",
    )
    published = metrics.reference.get("attack_success", {})
    for label in wording.ordered(metrics.attacks):
        paper = published.get(label.kind, {}).get(label.system or "default") if label.effect == "ablation" else None
        for judge, rows in metrics.attacks[label].items():
            for category, row in rows.items():
                beside = f"{paper:.1%}" if paper is not None and category == "standard" else ""
                shown = f"{wording.condition(label)} [{judge}]"
                table.add_row(shown, category, *wording.number(row, "{:.1%}"), beside)
        table.add_section()
    table.caption = printed.caption(
        "the orthogonalised model answers as the ablated one does: see export in the table above"
    )
    return table
