"""Readable tables of the committed metrics of the run that params.yaml names."""

from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline import printed
from pipeline.config.params import profile_of
from pipeline.disk.files import read_json
from pipeline.disk.shape import as_written, made_again
from pipeline.maths.labels import Label
from pipeline.maths.selection import FOUND
from pipeline.names import ESTIMATOR_NAMES
from pipeline.report.tables import besides as side_effects
from pipeline.report.tables import cells
from pipeline.report.tables import suffix as suffix_tables

STANDARD_TOOK = "35 minutes on two cores of a CPU with AMX, longer on one without"
METRIC = {
    "bypass": "refusal metric, harmful val, ablated, nats",
    "induce": "refusal metric, harmless val, added, nats",
    "kl": "KL(baseline || ablated), harmless val, nats",
}


def tables(
    metrics: Mapping[str, Any],
    stability: Mapping[str, Any] | None,
    invariance: Mapping[str, Any] | None,
    suffix: Mapping[str, Any] | None,
) -> Iterator[Table]:
    """Every table of one model: refusal scores first, then what the verdict supports."""
    yield refusal_table(metrics)
    if metrics["verdict"] == FOUND:
        yield effects_table(metrics)
    if metrics["verdict"] == FOUND and metrics["estimators"]:
        yield estimators_table(metrics)
    yield from side_effects.tables(metrics)
    if metrics["refusal_tokens"]["lists"]:
        yield tokens_table(metrics["refusal_tokens"])
    yield agreement_table(metrics)
    if stability:
        yield stability_table(stability)
    if invariance and "variants" in invariance:
        yield invariance_table(invariance)
    if suffix:
        yield from suffix_tables.tables(suffix)


def refusal_table(metrics: Mapping[str, Any]) -> Table:
    """Refusal score of every condition with interval, n, rank among null controls and paired test."""
    title = f"{metrics['title']}: {metrics['verdict']}"
    table = printed.table(
        title, f"refusal score [{metrics['judge']}]", "value", "95 % interval", "n", "rank", "p (Holm)", "verdict"
    )
    scores = metrics["refusal_score"]
    for kind in ("harmful", "harmless"):
        for name in (name for name in cells.ordered(scores) if _main(name, kind)):
            row = scores[name]
            test = metrics["comparisons"].get(name)
            table.add_row(
                cells.condition(name),
                f"{row['value']:.1%}",
                cells.interval(row, "{:.1%}"),
                str(row["n"]),
                cells.rank(row["rank"]),
                *cells.test(test),
            )
        table.add_section()
    table.caption = printed.caption(*_notes(metrics))
    return table


def _main(name: str, kind: str) -> bool:
    label = Label.parse(name)
    return label.is_main and label.kind == kind


def _notes(metrics: Mapping[str, Any]) -> Iterator[str]:
    if metrics["verdict"] != FOUND:
        yield metrics["reason"]
        return
    yield (
        "rank: of the direction's effect among random and shuffled directions, first is the largest; "
        "p: McNemar's exact test against the baseline, Holm's correction"
    )
    main = [row for name, row in metrics["comparisons"].items() if Label.parse(name).is_main]
    detectable = next((row["detectable"] for row in main if row["detectable"]), None)
    if detectable:
        yield f"smallest change of a refusal score that these prompts show with 80 % power: {detectable:.1%}"
    moved = metrics["moved_controls"]
    yield (
        "random and shuffled directions leave every refusal score within its baseline's interval"
        if not moved
        else f"CONTROLS MOVED out of their baseline's interval: {', '.join(map(cells.condition, moved))}"
    )
    chosen = {
        n: row for n, row in metrics["comparisons"].items() if Label.parse(n).is_main and not Label.parse(n).source
    }
    yield from (f"{cells.condition(name)}: {row['note']}" for name, row in chosen.items() if row["note"])
    if unknown := {name: count for name, count in metrics["unknown"].items() if count}:
        yield "no verdict: " + ", ".join(f"{cells.condition(name)} {count}" for name, count in unknown.items())


def effects_table(metrics: Mapping[str, Any]) -> Table:
    """Val metric, KL, loss and export of the chosen direction, each beside the range of its null controls."""
    table = printed.table("what else changes", "measure", "value", "95 % interval", "n", "rank", "controls")
    for name, label in METRIC.items():
        record = metrics["val_scores"][name]
        if baseline := record.get("baseline"):
            table.add_row(
                f"{label.rpartition(',')[0].rpartition(',')[0]}, baseline, nats", *cells.number(baseline, "{:+.3f}")
            )
        table.add_row(
            label,
            *cells.number(record["direction"], "{:+.3f}"),
            cells.rank(record["rank"]),
            cells.span(record["controls"], "{:+.2f}"),
        )
    for text, losses in metrics["loss"].items():
        for effect in (name for name in ("ablation", "export", "addition") if name in losses["change"]):
            controls = {name: row for name, row in losses["change"].items() if name.startswith(f"{effect}.")}
            change = losses["change"][effect]
            label = f"CE loss change, {text.replace('_', ' ')}, {cells.EFFECTS.get(effect, effect)}, nats/token"
            table.add_row(
                label, *cells.number(change, "{:+.4f}"), cells.rank(change["rank"]), cells.span(controls, "{:+.3f}")
            )
    table.add_section()
    _add_export(table, metrics["export"])
    table.caption = printed.caption(*_choice(metrics))
    return table


def _choice(metrics: Mapping[str, Any]) -> Iterator[str]:
    selection = metrics["selection"]
    chosen, reference = selection["chosen"], metrics["reference"]
    yield (
        f"direction: position {chosen['position']}, layer {chosen['layer']}, chosen by rule {selection['rule']} "
        f"from {selection['n_candidates']} candidates ({selection['n_kept']} kept); controls: range of all their values"
    )
    if not metrics["export"]["exported"]:
        yield f"not exported: {metrics['export']['reason']}"
    if reference:
        yield f"published choice: position {reference['position']}, layer {reference['layer']} ({reference['from']})"


def _add_export(table: Table, export: Mapping[str, Any]) -> None:
    if not export["exported"]:
        return
    matched = export["greedy_equal"] + export["greedy_ties"]
    table.add_row(
        f"export = live ablation, greedy, {export['n_tokens']} tokens",
        f"{matched}/{export['n_prompts']}",
        f"{export['greedy_ties']} ties",
        str(export["n_prompts"]),
    )
    table.add_row("largest logit difference, export to live ablation", f"{export['logit_difference_max']:.1e}")
    table.add_row("largest |cos| with r_hat in any layer of the export", f"{max(export['max_cosine_after']):.1e}")
    table.add_row("writers of the residual stream edited", f"{export['n_edited']}/{export['n_writers']}")
    if not export["exact"]:
        table.add_row("export and live ablation", "not identical (norms after the writes)")


def estimators_table(metrics: Mapping[str, Any]) -> Table:
    """Every estimator's choice and its effects, with the paired test against the difference in means."""
    columns = ("estimator", "position, layer", "harmful, ablated", "p (Holm)", "harmless, added", "p (Holm)", "KL")
    table = printed.table("estimators: same prompts, places, rule and evaluation", *columns)
    for name, record in (
        (name, metrics["estimators"][name]) for name in ESTIMATOR_NAMES if name in metrics["estimators"]
    ):
        label, evaluated = name.replace("_", " "), record["evaluated"]
        if not evaluated:
            table.add_row(label, "none")
            continue
        miss = "" if record["chosen"] else " *"
        row = [label, f"{evaluated['position']}, {evaluated['layer']}{miss}"]
        for kind, effect in (("harmful", "ablation"), ("harmless", "addition")):
            score = metrics["refusal_score"].get(str(Label(kind, effect, record["conditions_of"])))
            test = record["against_mean_difference"].get(effect)
            row += [f"{score['value']:.0%} {cells.interval(score, '{:.0%}')}" if score else "-", cells.p(test)]
        table.add_row(*row, f"{evaluated['kl']:.3f}")
    notes = ["p: McNemar's exact test against the difference in means; below 0.05 the difference is real"]
    if any(not record["chosen"] for record in metrics["estimators"].values()):
        notes.append("*: the rule keeps none of its candidates; this is the nearest miss")
    table.caption = printed.caption(*notes)
    return table


def tokens_table(record: Mapping[str, Any]) -> Table:
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
    table = printed.table(f"refusal tokens (in use: {record['used']})", *columns)
    for name, row in record["lists"].items():
        train, val, auroc = row["caught_train"], row["caught_val"], row["auroc_val"]
        table.add_row(
            f"{name}: {' '.join(map(repr, row['tokens']))}",
            *(cells.number(auroc, "{:.3f}")[:2] if auroc["value"] is not None else ("-", auroc["note"])),
            f"{row['cutoff']:+.2f}",
            f"{train['refused_above']}/{train['refused']}",
            f"{val['refused_above']}/{val['refused']}",
            f"{val['answered_above']}/{val['answered']}",
        )
    difference = record["difference"]
    ids = [row["ids"] for row in record["lists"].values()]
    if len(ids) == 2 and ids[0] == ids[1]:
        table.caption = printed.caption("auto finds the family's tokens, and another cutoff")
    elif difference and difference["value"] is not None:
        change = f"{difference['value']:+.3f} {cells.interval(difference, '{:+.3f}')}"
        table.caption = printed.caption(f"auto minus family, AUROC: {change}")
    elif record["note"]:
        table.caption = printed.caption(f"auto: {record['note']}")
    return table


def agreement_table(metrics: Mapping[str, Any]) -> Table:
    """Pairwise agreement of the judges on the conditions of baseline and chosen direction."""
    table = printed.table(
        "agreement of the judges", "judges, condition", "equal", "kappa", "95 % interval", "only first", "only second"
    )
    for pair, rows in metrics["agreement"].items():
        first, second = pair.split(" and ")
        for name in (n for n in cells.ordered(rows) if Label.parse(n).is_main and not Label.parse(n).source):
            row = rows[name]
            kappa = row["kappa"]
            shown = (
                (f"{kappa['value']:.2f}", cells.interval(kappa, "{:.2f}"))
                if kappa["value"] is not None
                else ("-", kappa["note"])
            )
            table.add_row(
                f"{pair}: {cells.condition(name)}",
                f"{row['equal']['value']:.0%}",
                *shown,
                str(row[f"only_{first}"]),
                str(row[f"only_{second}"]),
            )
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
            table.add_row(f"{place}: distance to the {score} threshold, nats", *cells.number(row[score], "{:+.3f}")[:2])
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
            *cells.number(row["completions"], "{:.0%}"),
            f"{round(changed['value'] * changed['n'])}",
            f"{first:.0f}" if first else "-",
        )
    return table


def text(metrics: Path) -> str:
    """The tables of a metrics.json and of what lies beside it."""
    # Wide enough for the widest row, whatever the terminal.
    console = Console(width=140, file=StringIO(), color_system=None)
    beside = [metrics.with_name(name) for name in ("stability.json", "invariance.json", "suffix.json")]
    with made_again():
        main, extra = read_json(metrics), [read_json(other) if other.exists() else None for other in beside]
    with as_written(metrics, *filter(Path.exists, beside)):
        for table in tables(main, *extra):
            console.print(table)
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def closing(label: str) -> str:
    """What a run of `quick` leaves out, and how to get it; nothing of other profiles."""
    if profile_of(label) != "quick":
        return ""
    return (
        "This was profile quick: the verdict with its controls. Everything else that is measured: "
        f"make repro PROFILE=standard ({STANDARD_TOOK})\n"
    )
