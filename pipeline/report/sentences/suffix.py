"""What the committed analysis of an adversarial suffix shows, beside what does not follow from it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.report.readme import table
from pipeline.report.sentences.words import listed, paragraph, with_interval
from pipeline.report.tables import wording

Record = Mapping[str, Any]
KINDS = {"harmful": "no suffix", "adversarial": "suffix", "random": "random suffixes", "harmless": "harmless requests"}


def suffix(record: Record) -> str:
    """How the suffix was found, what it changes, and how much of that comes back with the direction's component."""
    if "metric" not in record:
        return paragraph([f"No suffix is analysed in the committed results: {record['reason']}."])
    columns = ("last token of the prompt", *KINDS.values(), "suffix against none, p (Holm)")
    sentences = [*_searches(record), _prompts(record)]
    return "\n".join(
        (paragraph(sentences), table(columns, _rows(record)), paragraph([_overshoot(record), *_restored(record)]))
    )


def _searches(record: Record) -> Iterator[str]:
    for search in record["searches"]:
        asked, given = search["settings"], record["made_for"]
        yield (
            f"A suffix that the search found on {given} (objective `{asked['objective']}`; {search['prompts']} train "
            f"prompts, {asked['suffix_tokens']} tokens, {asked['candidates']} candidates a step, "
            f"{search['steps']} steps)."
        )


def _prompts(record: Record) -> str:
    n = record["n"]
    return f"Measured on {n['harmful']} test prompts that the model refuses, beside {n['harmless']} harmless ones."


def _rows(record: Record) -> Iterator[Sequence[str]]:
    layer, n_heads = record["layer"], len(record["heads"])
    cosine, attention = record["cosine"], record["attention"]
    yield _row("refusal metric, nats", record["metric"], "{:+.1f}")
    yield _row(f"refusal score [{record['judge']}]", record["refusal_score"], "{:.0%}")
    of_layer = {part: {name: rows[layer] for name, rows in cosine[part].items()} for part in ("values", "changes")}
    yield _row(f"cosine of `resid_pre` with the direction, layer {layer}", of_layer, "{:.2f}")
    yield _row(f"written along the direction by the {n_heads} top heads", record["heads_sum"], "{:.2f}")
    for region in ("instruction", "suffix"):
        rows = {part: {name: one[region] for name, one in attention[part].items()} for part in ("values", "changes")}
        yield _row(f"attention of these heads on the {region}", rows, "{:.2f}")


def _row(title: str, rows: Record, form: str) -> Sequence[str]:
    values = {**rows["values"], **({"harmless": rows["harmless"]} if "harmless" in rows else {})}
    cells = [with_interval(wording.estimate(values[kind]), form) if kind in values else "" for kind in KINDS]
    return title, *cells, wording.holm(rows["changes"]["adversarial_against_none"]["p_holm"])


def _overshoot(record: Record) -> str:
    """The search lowers the table's first row itself: how far below harmless prompts it gets says so."""
    value, plain = record["metric"]["values"]["adversarial"]["value"], record["metric"]["harmless"]["value"]
    objectives = {search["settings"]["objective"] for search in record["searches"]}
    if "refusal" not in objectives or value >= plain:
        return ""
    return (
        f"The search lowered the first row itself, to {plain - value:.1f} nats below that of harmless requests: "
        "much further than it takes for a request to be answered."
    )


def _restored(record: Record) -> Iterator[str]:
    """What comes back when parts are put back to what they are without suffix."""
    rows = record["restoration"]
    parts = {
        "top_heads": ("the outputs of the top heads", "random_heads", "random heads of the same layers"),
        "component": ("the direction's component at every layer", "random_direction", "random directions"),
    }
    found: list[str] = []
    for name, (words, control, others) in parts.items():
        most = max(row["returned"]["value"] for key, row in rows.items() if key.startswith(f"{control}/"))
        share = with_interval(wording.estimate(rows[name]["returned"]))
        found.append(f"{words} bring back {share} of the fall of the refusal metric ({others} at most {most:.0%})")
    yield f"Put back at the tokens after the instruction to what they are without suffix, {listed(found)}."
    outside, n = len(record["cosine"]["random_outside"]), len(record["cosine"]["values"]["harmful"])
    yield (
        "Random suffixes move the mean cosine out of the interval of prompts without suffix at "
        f"{outside} of {n} layers."
    )
