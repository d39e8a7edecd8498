"""Readable tables of the committed metrics of the run that params.yaml names."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline import printed
from pipeline.config.params import profile_of
from pipeline.disk.shape import as_written, read_record
from pipeline.maths.labels import Label, Treatment
from pipeline.maths.selection import FOUND
from pipeline.names import ESTIMATOR_NAMES
from pipeline.report.tables import other_effects, wording
from pipeline.report.tables import suffix as suffix_tables
from pipeline.results.choosing import KlScore, MetricScore, RefusalTokens
from pipeline.results.effects import Export
from pipeline.results.metrics import Metrics
from pipeline.results.metrics_file import read_metrics

STANDARD_TOOK = "35 minutes on two cores of a CPU with AMX, longer on one without"
METRIC = {
    "bypass": "refusal metric, harmful val, ablated, nats",
    "induce": "refusal metric, harmless val, added, nats",
    "kl": "KL(baseline || ablated), harmless val, nats",
}


def tables(metrics: Metrics) -> Iterator[Table]:
    """Every table of one model: refusal scores first, then what the verdict supports."""
    yield refusal_table(metrics)
    if metrics.verdict == FOUND:
        yield effects_table(metrics)
    if metrics.verdict == FOUND and metrics.estimators:
        yield estimators_table(metrics)
    yield from other_effects.tables(metrics)
    if metrics.refusal_tokens.lists:
        yield tokens_table(metrics.refusal_tokens)
    yield agreement_table(metrics)


def refusal_table(metrics: Metrics) -> Table:
    """Refusal score of every condition with interval, n, rank among null controls and paired test."""
    title = f"{metrics.title}: {metrics.verdict}"
    table = printed.table(
        title, f"refusal score [{metrics.judge}]", "value", "95 % interval", "n", "rank", "p (Holm)", "verdict"
    )
    scores = metrics.refusal_score
    for kind in ("harmful", "harmless"):
        for label in (label for label in wording.ordered(scores) if label.is_main and label.kind == kind):
            row, test = scores[label], metrics.comparisons.get(label)
            table.add_row(
                wording.condition(label), *wording.number(row, "{:.1%}"), wording.rank(row.rank), *wording.test(test)
            )
        table.add_section()
    table.caption = printed.caption(*_notes(metrics))
    return table


def _notes(metrics: Metrics) -> Iterator[str]:
    if metrics.verdict != FOUND:
        yield metrics.reason
        return
    yield f"{wording.answers(metrics.answers)}, at most {metrics.max_new_tokens} tokens each"
    yield (
        "rank: of the direction's effect among random and shuffled directions, first is the largest; "
        "p: McNemar's exact test against the baseline, Holm's correction"
    )
    main = {label: row for label, row in metrics.comparisons.items() if label.is_main}
    detectable = next((row.detectable for row in main.values() if row.detectable), None)
    if detectable:
        yield f"smallest change of a refusal score that these prompts show with 80 % power: {detectable:.1%}"
    moved = metrics.moved_controls
    yield (
        "random and shuffled directions leave every refusal score within its baseline's interval"
        if not moved
        else f"CONTROLS MOVED out of their baseline's interval: {', '.join(map(wording.condition, moved))}"
    )
    chosen = {label: row for label, row in main.items() if not label.source}
    yield from (f"{wording.condition(label)}: {row.note}" for label, row in chosen.items() if row.note)
    if unknown := {label: count for label, count in metrics.unknown.items() if count}:
        yield "no verdict: " + ", ".join(f"{wording.condition(label)} {count}" for label, count in unknown.items())


def effects_table(metrics: Metrics) -> Table:
    """Val metric, KL, loss and export of the chosen direction, each beside the range of its null controls."""
    table = printed.table("what else changes", "measure", "value", "95 % interval", "n", "rank", "controls")
    assert metrics.val_scores is not None, "a direction that was chosen has scores"
    for name, label in METRIC.items():
        row: MetricScore | KlScore = getattr(metrics.val_scores, name)
        if isinstance(row, MetricScore):
            title = f"{label.rpartition(',')[0].rpartition(',')[0]}, baseline, nats"
            table.add_row(title, *wording.number(row.baseline, "{:+.3f}"))
        shown = wording.span(row.controls.values(), "{:+.2f}")
        table.add_row(label, *wording.number(row.direction, "{:+.3f}"), wording.rank(row.rank), shown)
    for text, losses in metrics.loss.items():
        for done in (Treatment(effect) for effect in ("ablation", "export", "addition")):
            if (change := losses.change.get(done)) is None:
                continue
            controls = [row for other, row in losses.change.items() if other.effect == done.effect and other.source]
            label = (
                f"CE loss change, {text.replace('_', ' ')}, {wording.DONE.get(done.effect, done.effect)}, nats/token"
            )
            shown = wording.span(controls, "{:+.3f}")
            table.add_row(label, *wording.number(change, "{:+.4f}"), wording.rank(change.rank), shown)
    table.add_section()
    _add_export(table, metrics.export)
    table.caption = printed.caption(*_choice(metrics))
    return table


def _choice(metrics: Metrics) -> Iterator[str]:
    selection, reference = metrics.selection, metrics.reference
    assert selection.chosen is not None, "a verdict of a direction has one"
    yield (
        f"direction: position {selection.chosen.position}, layer {selection.chosen.layer}, chosen by rule "
        f"{selection.rule} from {selection.n_candidates} candidates ({selection.n_kept} kept); "
        "controls: range of all their values"
    )
    if not metrics.export.exported:
        yield f"not exported: {metrics.export.reason}"
    if reference:
        yield f"published choice: position {reference['position']}, layer {reference['layer']} ({reference['from']})"


def _add_export(table: Table, export: Export) -> None:
    if not export.exported:
        return
    assert export.greedy_equal is not None
    assert export.greedy_ties is not None
    assert export.max_cosine_after is not None
    matched = export.greedy_equal + export.greedy_ties
    table.add_row(
        f"export = live ablation, greedy, {export.n_tokens} tokens",
        f"{matched}/{export.n_prompts}",
        f"{export.greedy_ties} ties",
        str(export.n_prompts),
    )
    table.add_row("largest logit difference, export to live ablation", f"{export.logit_difference_max:.1e}")
    table.add_row("largest |cos| with r_hat in any layer of the export", f"{max(export.max_cosine_after):.1e}")
    table.add_row("writers of the residual stream edited", f"{export.n_edited}/{export.n_writers}")
    if not export.exact:
        table.add_row("export and live ablation", "not identical (norms after the writes)")


def estimators_table(metrics: Metrics) -> Table:
    """Every estimator's choice and its effects, with the paired test against the difference in means."""
    columns = ("estimator", "position, layer", "harmful, ablated", "p (Holm)", "harmless, added", "p (Holm)", "KL")
    table = printed.table("estimators: same prompts, places, rule and evaluation", *columns)
    for name in (name for name in ESTIMATOR_NAMES if name in metrics.estimators):
        estimator = metrics.estimators[name]
        title, evaluated = name.replace("_", " "), estimator.evaluated
        if not evaluated:
            table.add_row(title, "none")
            continue
        row = [title, f"{evaluated.position}, {evaluated.layer}{'' if estimator.chosen else ' *'}"]
        for kind, effect in (("harmful", "ablation"), ("harmless", "addition")):
            score = metrics.refusal_score.get(Label(kind, effect, estimator.conditions_of))
            shown = f"{wording.value(score, '{:.0%}')} {wording.interval(score, '{:.0%}')}" if score else "-"
            row += [shown, wording.p(estimator.against_mean_difference.get(effect))]
        table.add_row(*row, f"{evaluated.kl:.3f}")
    notes = ["p: McNemar's exact test against the difference in means; below 0.05 the difference is real"]
    if any(not estimator.chosen for estimator in metrics.estimators.values()):
        notes.append("*: the rule keeps none of its candidates; this is the nearest miss")
    table.caption = printed.caption(*notes)
    return table


def tokens_table(record: RefusalTokens) -> Table:
    """How well each list of refusal tokens tells refused from answered prompts."""
    columns = (
        "refusal tokens",
        "AUROC, val",
        "95 % interval",
        "cutoff",
        "refused above, train",
        "val",
        "answered above, val",
    )
    table = printed.table(f"refusal tokens (in use: {record.used})", *columns)
    for name, row in record.lists.items():
        train, val, auroc = row.caught_train, row.caught_val, row.auroc_val
        table.add_row(
            f"{name}: {' '.join(map(repr, row.tokens))}",
            *(wording.number(auroc, "{:.3f}")[:2] if auroc.value is not None else ("-", auroc.note)),
            f"{row.cutoff:+.2f}",
            f"{train.refused_above}/{train.refused}",
            f"{val.refused_above}/{val.refused}",
            f"{val.answered_above}/{val.answered}",
        )
    difference = record.difference
    ids = [row.ids for row in record.lists.values()]
    if len(ids) == 2 and ids[0] == ids[1]:
        table.caption = printed.caption("auto finds the family's tokens, and another cutoff")
    elif difference and difference.value is not None:
        change = f"{difference.value:+.3f} {wording.interval(difference, '{:+.3f}')}"
        table.caption = printed.caption(f"auto minus family, AUROC: {change}")
    elif record.note:
        table.caption = printed.caption(f"auto: {record.note}")
    return table


def agreement_table(metrics: Metrics) -> Table:
    """Pairwise agreement of the judges on the conditions of baseline and chosen direction."""
    table = printed.table(
        "agreement of the judges", "judges, condition", "equal", "kappa", "95 % interval", "only first", "only second"
    )
    for pair, rows in metrics.agreement.items():
        judges = pair.split(" and ")
        for label in (label for label in wording.ordered(rows) if label.is_main and not label.source):
            row = rows[label]
            kappa = wording.number(row.kappa, "{:.2f}")[:2] if row.kappa.value is not None else ("-", row.kappa.note)
            only = [str(row.only[judge]) for judge in judges]
            table.add_row(f"{pair}: {wording.condition(label)}", wording.value(row.equal, "{:.0%}"), *kappa, *only)
    return table


def stability_table(record: Mapping[str, Any]) -> Table:
    """How often the winner wins, how far it is from the thresholds, how alike two halves are."""
    table = printed.table("stability of the choice", "measure", "value", "95 % interval")
    for row in record.get("wins", [])[:3]:
        place = f"position {row['position']}, layer {row['layer']}" if row["layer"] is not None else "no candidate"
        table.add_row(f"share of resamples of val that choose {place}", f"{row['share']:.1%}", "")
    for name, row in record.get("margins", {}).items():
        for score in (score for score in ("kl", "induce", "bypass") if score in row):
            place = f"{name.replace('_', ' ')} ({row['position']}, {row['layer']})"
            table.add_row(
                f"{place}: distance to the {score} threshold, nats",
                *wording.number(wording.estimate(row[score]), "{:+.3f}")[:2],
            )
    if "mean" in (halves := record.get("split_half_cosine", {})):
        spread = f"{halves['q025']:.3f} to {halves['q975']:.3f} (of splits)"
        table.add_row("cosine of the directions of two halves of train", f"{halves['mean']:.3f}", spread)
        control = halves["shuffled_labels"]
        spread = f"{control['q025']:.3f} to {control['q975']:.3f} (of splits)"
        table.add_row("the same with shuffled labels", f"{control['mean']:.3f}", spread)
    if record["reason"]:
        table.caption = printed.caption(record["reason"])
    return table


def invariance_table(record: Mapping[str, Any]) -> Table:
    """Greedy completions that change when only the way of computing does."""
    reference = record["reference"]
    against = f"batch size {reference['batch_size']}, {reference['dtype']}"
    title = f"greedy answers of {record['n_tokens']} tokens against {against}"
    table = printed.table(
        title, "changed to", "completions changed", "95 % interval", "n", "verdicts changed", "median first token"
    )
    for name, row in record["variants"].items():
        first = row["first_difference"]
        changed = row["verdicts"]
        table.add_row(
            name,
            *wording.number(wording.estimate(row["completions"]), "{:.0%}"),
            f"{round(changed['value'] * changed['n'])}",
            f"{first:.0f}" if first else "-",
        )
    return table


def text(metrics: Path) -> str:
    """The tables of a metrics.json and of what lies beside it."""
    # Wide enough for the widest row, whatever the terminal.
    console = Console(width=140, file=StringIO(), color_system=None)
    shown = [*tables(read_metrics(metrics))]
    for name, made in BESIDE.items():
        if (path := metrics.with_name(name)).exists():
            record = read_record(path, dict[str, Any])
            with as_written(path):
                shown += made(record)
    for table in shown:
        console.print(table)
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


BESIDE: dict[str, Callable[[Mapping[str, Any]], Iterable[Table]]] = {  # tables of a file beside metrics.json
    "stability.json": lambda record: [stability_table(record)],
    "invariance.json": lambda record: [invariance_table(record)] if "variants" in record else [],
    "suffix.json": suffix_tables.tables,
}


def closing(label: str) -> str:
    """What a run of `quick` leaves out, and how to get it; nothing of other profiles."""
    if profile_of(label) != "quick":
        return ""
    return (
        "This was profile quick: the verdict with its controls. Everything else that is measured: "
        f"make repro PROFILE=standard ({STANDARD_TOOK})\n"
    )
