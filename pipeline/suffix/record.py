"""The numbers of the suffix analysis, from readings per prompt to typed estimates and tests."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pipeline.maths.comparisons import compare_family
from pipeline.maths.paired import PairedChange, holm, paired
from pipeline.maths.statistics import Estimate, mean, rate
from pipeline.results import suffix as results
from pipeline.suffix.maths.attribution import mean_over
from pipeline.suffix.maths.changes import outside, returned_share

# What is compared with what, on the same prompts: name -> (before, after).
PAIRS = {
    "adversarial_against_none": ("harmful", "adversarial"),
    "adversarial_against_random": ("random", "adversarial"),
    "random_against_none": ("harmful", "random"),
}
EFFECTIVE, WITHOUT_EFFECT = "suffix_lowers_refusal", "suffix_does_not_lower_refusal"
HARMFUL = ("harmful", "adversarial", "random")
Values = Mapping[str, Sequence[float]]  # by kind of prompts, a value per prompt
Rows = Mapping[str, Tensor]
Heads = Sequence[tuple[int, int]]


def measures(table: Sequence[Values]) -> list[results.Measure]:
    """Numbers of one table, each with its changes, corrected over numbers and pairs."""
    tests = holm(
        {
            (row, name): paired(values[before], values[after])
            for row, values in enumerate(table)
            for name, (before, after) in PAIRS.items()
        }
    )
    found = []
    for row, values in enumerate(table):
        fields: dict[str, Any] = {kind: mean(rows) for kind, rows in values.items()}
        fields |= {name: tests[row, name] for name in PAIRS}
        found.append(results.Measure(**fields))
    return found


def cosines(values: Rows) -> tuple[list[results.Measure], list[int]]:
    """Cosine of resid_pre with r_hat by layer (prompt x layer in), and the layers that random suffixes move.

    Those are the layers at which the mean under random suffixes leaves the interval without suffix.
    """
    rows = measures([_columns(values, (layer,)) for layer in range(values["harmful"].shape[1])])
    return rows, outside(values["random"].mean(dim=0).tolist(), [row.harmful for row in rows])


def heads(projections: Rows, chosen: Heads) -> list[results.Head]:
    """What each head writes along r_hat (prompt x layer x head in)."""
    rows = measures([_columns(projections, head) for head in chosen])
    return [results.Head(*head, row) for head, row in zip(chosen, rows, strict=True)]


def heads_sum(projections: Rows, chosen: Heads) -> results.Measure:
    """The same for the sum of the heads."""
    [row] = measures([{kind: (mean_over(x, chosen) * len(chosen)).tolist() for kind, x in projections.items()}])
    return row


def attention(masses: Rows, chosen: Heads) -> results.Regions:
    """Attention of the last token by region, averaged over the heads (prompt x layer x head x region in)."""
    averaged = {kind: mean_over(x, chosen) for kind, x in masses.items()}
    n_regions = averaged["harmful"].shape[1]
    return results.Regions(*measures([_columns(averaged, (region,)) for region in range(n_regions)]))


def _columns(values: Rows, place: Sequence[int]) -> dict[str, list[float]]:
    return {kind: x[(slice(None), *place)].tolist() for kind, x in values.items()}


def restoration(none: Sequence[float], suffixed: Sequence[float], restored: Values) -> results.Restoration:
    """Refusal metric under every restoration, its change from the suffixed run, and the share of the fall returned.

    `restored`: by name, a value per prompt; draws and layers as `NAME/NUMBER`.
    """
    tests = holm({name: paired(suffixed, rows) for name, rows in restored.items()})

    def one(name: str) -> results.Restored:
        share = returned_share(none, suffixed, restored[name])
        return results.Restored(mean(restored[name]), tests[name], share)

    def several(name: str) -> list[results.Restored]:
        return [one(key) for key in numbered(restored, name)]

    return results.Restoration(
        nothing=one("nothing"),
        all_heads=one("all_heads"),
        top_heads=one("top_heads"),
        top_heads_last=one("top_heads/last_token"),
        random_heads=several("random_heads"),
        component=one("component"),
        component_last=one("component/last_token"),
        component_at=several("component_at"),
        random_directions=several("random_direction"),
    )


def numbered(restored: Mapping[str, Any], name: str) -> list[str]:
    """Keys `NAME/NUMBER`, in order."""
    keys = [key for key in restored if key.rpartition("/")[0] == name and key.rpartition("/")[2].isdigit()]
    return sorted(keys, key=lambda key: int(key.rpartition("/")[2]))


def returned(found: results.Restoration, restored: Values) -> dict[str, results.Returned]:
    """`component` and `top_heads` beside their controls: against the mean of the draws, prompt by prompt."""
    draws = {"component": "random_direction", "top_heads": "random_heads"}
    tests: dict[str, PairedChange] = {}
    for name, control in draws.items():
        rows = [restored[key] for key in numbered(restored, control)]
        tests[name] = paired([sum(values) / len(values) for values in zip(*rows, strict=True)], restored[name])
    tests = holm(tests)
    controls = {"component": found.random_directions, "top_heads": found.random_heads}
    parts = {"component": found.component, "top_heads": found.top_heads}
    return {
        name: results.Returned(part.returned, [draw.returned for draw in controls[name]], tests[name])
        for name, part in parts.items()
    }


def scores(outcomes: Mapping[str, Mapping[str, bool | None]]) -> results.Scores:
    """Refusal score of the answers per kind, and McNemar's exact tests of PAIRS with Holm's correction."""
    known = {kind: [value for value in outcomes[kind].values() if value is not None] for kind in HARMFUL}
    tests = compare_family({name: (outcomes[a], outcomes[b], "lower") for name, (a, b) in PAIRS.items()})
    fields: dict[str, Any] = {kind: rate(rows) if rows else _unknown() for kind, rows in known.items()}
    fields |= tests
    return results.Scores(**fields)


def _unknown() -> Estimate:
    return Estimate(None, None, None, 0, "no answer has a verdict")


def tried(plain: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> list[results.Tried]:
    """Every suffix of an objective: its refusal metric with its change, corrected over these suffixes."""
    tests = holm({number: paired(plain, row["harmful"]) for number, row in enumerate(rows)})
    return [
        results.Tried(
            row["sha256"],
            results.Tokens(**row["tokens"]),
            mean(row["choosing"]),
            mean(row["harmful"]),
            tests[number],
        )
        for number, row in enumerate(rows)
    ]


def verdict(metric: results.Measure, name: str) -> tuple[str, str]:
    """Whether a suffix lowers the refusal metric, and more than random ones of its length; why, in words."""
    tests = {pair: getattr(metric, pair) for pair in ("adversarial_against_none", "adversarial_against_random")}
    lowers = all(row.verdict == "lower" for row in tests.values())
    said = "; ".join(f"{pair.replace('_', ' ')} {_said(row)}" for pair, row in tests.items())
    if lowers:
        return EFFECTIVE, f"{name} lowers the refusal metric: {said}"
    return (
        WITHOUT_EFFECT,
        f"{name} does not lower the refusal metric below both no suffix and random ones: {said}; what follows "
        "describes a suffix that does not work and explains no bypass",
    )


def _said(row: PairedChange) -> str:
    p = "" if row.p_holm is None else f", p {row.p_holm:.1g}"
    return f"{row.change.value:+.2f} nats ({row.verdict}{p})"
