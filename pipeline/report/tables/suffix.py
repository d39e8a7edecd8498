"""Printed tables of the suffix analysis: what a suffix changes, and what comes back when parts are put back."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from pipeline import printed
from pipeline.report.tables import wording

KINDS = ("harmful", "adversarial", "random")
REGIONS = {"before": "template before", "instruction": "instruction", "suffix": "suffix", "after": "template after"}
RESTORED = {
    "top_heads": "top heads",
    "top_heads/last_token": "top heads, last token only",
    "all_heads": "every head",
    "component": "the direction's component, every layer",
    "component/last_token": "the direction's component, last token only",
}


def tables(record: Mapping[str, Any]) -> Iterator[Table]:
    """Every such table; none where the stage was not run, and the reason alone where it had nothing to analyse."""
    if record["verdict"] == "not_run":
        return
    if "metric" not in record:
        table = printed.table(f"adversarial suffixes: {record['verdict']}", "reason")
        table.add_row(record["reason"])
        yield table
        return
    yield kinds_table(record)
    yield restoration_table(record)


def kinds_table(record: Mapping[str, Any]) -> Table:
    """Every measure without suffix, with the adversarial one and with random ones, on the same harmful prompts."""
    columns = ("n", "no suffix", "suffix", "random suffix", "suffix - none", "p (Holm)", "suffix - random", "p (Holm)")
    table = printed.table(
        f"adversarial suffixes ({record['source']}): {record['verdict']}", "harmful prompts, last token", *columns
    )
    layer, heads = record["layer"], len(record["heads"])
    cosine = {part: _at(record["cosine"][part], layer) for part in ("values", "changes")}
    _add(table, "refusal metric, nats", record["metric"])
    _add(table, f"refusal score [{record['judge']}]", record["refusal_score"])
    _add(table, f"cosine with the direction, input of block {layer}", cosine)
    _add(table, f"written along the direction by the {heads} top heads", record["heads_sum"])
    for region, words in REGIONS.items():
        rows = {part: _at(record["attention"][part], region) for part in ("values", "changes")}
        _add(table, f"attention of the {heads} top heads on: {words}", rows)
    table.caption = printed.caption(*_notes(record))
    return table


def _at(rows: Mapping[str, Any], place: Any) -> dict[str, Any]:
    return {name: row[place] for name, row in rows.items()}


def _add(table: Table, label: str, rows: Mapping[str, Any]) -> None:
    values = [rows["values"][kind] for kind in KINDS]
    shown = ["-" if row["value"] is None else f"{row['value']:.3f}" for row in values]
    for name in ("adversarial_against_none", "adversarial_against_random"):
        test = rows["changes"][name]
        change = test["change"]["value"]
        shown += ["-" if change is None else f"{change:+.3f}", wording.holm(test["p_holm"])]
    table.add_row(label, str(values[0]["n"]), *shown)


def _notes(record: Mapping[str, Any]) -> Iterator[str]:
    yield record["reason"]
    if record["made_for"]:
        tried = f"{len(record['tried'])} tried, {len(record['random_draws'])} random ones"
        yield f"suffixes made for: {record['made_for']}; {tried}"
    yield record["cosine"]["random_statement"]
    parts = record["decomposition"]
    error = max(parts["sum_error"], parts["heads_error"])
    yield (
        f"embedding + heads + biases + MLPs give the projection of the residual stream within {error:.0e} (relative)"
        if parts["holds"]
        else f"PARTS DO NOT ADD UP: off by {error:.0e} of the residual stream, more than {parts['tolerance']:.0e}"
    )
    yield "p: Wilcoxon's signed-rank test on the same prompts (refusal score: McNemar's), Holm's correction"


def restoration_table(record: Mapping[str, Any]) -> Table:
    """How much of the fall of the refusal metric comes back, beside random heads and directions."""
    table = printed.table(
        "parts put back to what they are without suffix, after the instruction",
        *("put back", "metric changes by, nats", "95 % interval", "share of the fall", "95 % interval"),
        *("random ones", "p against them (Holm)"),
    )
    rows, against = record["restoration"], record["restoration_against_controls"]
    controls = {"top_heads": "random_heads", "component": "random_direction"}
    for name, words in RESTORED.items():
        change, returned = rows[name]["against_suffix"]["change"], rows[name]["returned"]
        share = "-" if returned["value"] is None else f"{returned['value']:.0%}"
        shown = [*wording.number(wording.estimate(change), "{:+.3f}")[:2]]
        shown += [share, wording.interval(wording.estimate(returned), "{:.0%}")]
        if control := controls.get(name):
            draws = {key: row for key, row in rows.items() if key.startswith(f"{control}/")}
            changes = [wording.estimate(row["against_suffix"]["change"]) for row in draws.values()]
            shown += [wording.span(changes, "{:+.3f}"), wording.holm(against[f"{name}_against_{control}"]["p_holm"])]
        table.add_row(words, *shown)
    fall = record["metric"]["changes"]["adversarial_against_none"]["change"]
    table.caption = printed.caption(
        f"without suffix the refusal metric is {-fall['value']:+.3f} nats from that with it: the whole fall"
    )
    return table
