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
from pipeline.maths.comparisons import BACK
from pipeline.maths.evaluation import nulls_held
from pipeline.maths.selection import FOUND
from pipeline.report.tables import estimators, held_out, other_effects, verdict, wording
from pipeline.report.tables import suffix as suffix_tables
from pipeline.report.tables.loss import loss_table
from pipeline.report.tables.stability import invariance_table, stability_table
from pipeline.results.choosing import RefusalTokens
from pipeline.results.effects import Export
from pipeline.results.metrics import Metrics
from pipeline.results.metrics_file import read_metrics
from pipeline.results.suffix_file import read_suffix

WIDTH = 160  # of the widest row


def tables(metrics: Metrics) -> Iterator[Table]:
    """Every table of one model: refusal scores first, then what the verdict supports."""
    yield refusal_table(metrics)
    yield from held_out.tables(metrics)
    if metrics.verdict == FOUND:
        yield effects_table(metrics)
        if metrics.loss:
            yield loss_table(metrics.loss)
        yield from estimators.tables(metrics)
    yield from other_effects.tables(metrics)
    if metrics.refusal_tokens.lists:
        yield tokens_table(metrics.refusal_tokens)
    yield agreement_table(metrics)


def refusal_table(metrics: Metrics) -> Table:
    """Refusal score of every condition with interval, n, test, and rank where enough random directions answer."""
    title = f"{metrics.title}: {metrics.verdict}, {wording.under_system(metrics.systems)}"
    scores = metrics.refusal_score
    ranked = ["rank"] if any(row.rank for row in scores.values()) else []
    columns = ("value", "95 % interval", "n", *ranked, *wording.TESTED)
    table = printed.table(title, f"refusal score [{metrics.judge}]", *columns)
    for kind in ("harmful", "harmless"):
        for label in (label for label in wording.ordered(scores) if label.is_main and label.kind == kind):
            row, test = scores[label], metrics.comparisons.get(label)
            rank = [wording.rank(row.rank)] if ranked else []
            table.add_row(wording.condition(label), *wording.number(row, "{:.1%}"), *rank, *wording.test(test))
        table.add_section()
    table.caption = printed.caption(*_notes(metrics))
    return table


def _notes(metrics: Metrics) -> Iterator[str]:
    if metrics.verdict != FOUND:
        yield metrics.reason
        return
    yield from verdict.sentences(metrics.claim)
    yield f"{wording.answers(metrics.answers)}, at most {metrics.max_new_tokens} tokens each"
    yield ("change: paired, with Newcombe's interval; p: McNemar's exact test against the baseline, Holm's correction")
    if any(row.rank for row in metrics.refusal_score.values()):
        yield "rank: of the direction's effect among random directions, first is the largest"
    yield "controls: no correction; a verdict of higher or lower is an interval of the change without 0"
    chosen = {label: row for label, row in metrics.comparisons.items() if label.is_main and not label.source}
    detectable = next((row.detectable for row in chosen.values() if row.detectable), None)
    if detectable:
        yield (
            f"smallest change of a refusal score that these prompts show with 80 % power: {detectable:.1%}, when "
            f"{BACK:.0%} of them change the other way, at the level after Holm's correction"
        )
    yield from _moved(metrics)
    yield from (f"{wording.condition(label)}: {row.note}" for label, row in chosen.items() if row.note)
    if unknown := {label: count for label, count in metrics.unknown.items() if count}:
        yield "no verdict: " + ", ".join(f"{wording.condition(label)} {count}" for label, count in unknown.items())


def _moved(metrics: Metrics) -> Iterator[str]:
    """Which controls that should do nothing moved a refusal score, and how many would by chance."""
    of = f"of {n} changes under controls that should do nothing" if (n := nulls_held(metrics.comparisons)) else ""
    if of and metrics.moved_controls:
        moved = ", ".join(map(wording.condition, metrics.moved_controls))
        yield f"CONTROLS MOVED: {of}, {len(metrics.moved_controls)} have a 95 % interval without 0: {moved}"
    elif of:
        yield f"{of}, none has a 95 % interval without 0"


def effects_table(metrics: Metrics) -> Table:
    """The export of the chosen direction, and how that was chosen."""
    table = printed.table("what else changes", "measure", "value", "95 % interval", "n", "rank", "controls")
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
    scores = (selection.chosen.bypass, selection.chosen.induce, selection.chosen.kl)
    named = zip(("bypass", "induce", "KL"), scores, strict=True)
    shown = ", ".join(f"{name} {value:.2f}" for name, value in named if value is not None)
    yield f"on the prompts that chose it, nats: {shown}"
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


def text(metrics: Path) -> str:
    """The tables of a metrics.json and of what lies beside it."""
    # Wide enough for the widest row, whatever the terminal.
    console = Console(width=WIDTH, file=StringIO(), color_system=None)
    shown = [*tables(read_metrics(metrics))]
    for name, made in BESIDE.items():
        if (path := metrics.with_name(name)).exists():
            record = read_record(path, dict[str, Any])
            with as_written(path):
                shown += made(record)
    if (path := metrics.with_name("suffix.json")).exists():
        shown += suffix_tables.tables(read_suffix(path))
    for table in shown:
        console.print(table)
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


BESIDE: dict[str, Callable[[Mapping[str, Any]], Iterable[Table]]] = {  # tables of a file beside metrics.json
    "stability.json": lambda record: [stability_table(record)],
    "invariance.json": lambda record: [invariance_table(record)] if "variants" in record else [],
}


def closing(label: str) -> str:
    """What a run of `quick` leaves out, and how to get it; nothing of other profiles."""
    if profile_of(label) != "quick":
        return ""
    return (
        "This was profile quick: the verdict with its controls. Everything else that is measured: "
        "make repro PROFILE=standard\n"
    )
