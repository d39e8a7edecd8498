"""The numbers of the suffix analysis, from readings per prompt to estimates and tests."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pipeline.maths.comparisons import compare_family
from pipeline.maths.statistics import LEAST_FOR_INTERVAL, Estimate, mean, rate
from pipeline.suffix.maths.attribution import mean_over
from pipeline.suffix.maths.changes import Change, change, holm, outside, returned_share

# What is compared with what, on the same prompts: name -> (before, after).
PAIRS = {
    "adversarial_against_none": ("harmful", "adversarial"),
    "adversarial_against_random": ("random", "adversarial"),
    "random_against_none": ("harmful", "random"),
}
Rows = Mapping[str, Tensor]
Heads = Sequence[tuple[int, int]]


def estimates(values: Float[Tensor, "prompt point"], seed: int) -> list[dict[str, Any]]:
    """Mean over prompts of every point, with its interval."""
    return [asdict(mean(column.tolist(), seed)) for column in values.T]


def changes(values: Mapping[str, Sequence[float]], seed: int) -> dict[str, Change]:
    """The paired changes of PAIRS, not corrected."""
    return {name: change(values[a], values[b], seed) for name, (a, b) in PAIRS.items()}


def metric_record(metrics: Mapping[str, Sequence[float]], seed: int) -> dict[str, Any]:
    """Refusal metric of every kind of prompt and its paired changes."""
    tests = holm(changes(metrics, seed))
    return {
        "values": {kind: asdict(mean(rows, seed)) for kind, rows in metrics.items()},
        "changes": {name: asdict(row) for name, row in tests.items()},
    }


def cosine_record(cosines: Rows, seed: int) -> dict[str, Any]:
    """Cosine of resid_pre with r_hat, per kind and layer (prompt x layer in); tests corrected over pairs and layers.

    `random_outside`: layers at which the mean under random suffixes leaves the interval without suffix, which
    `random_statement` says in words.
    """
    n_layers = cosines["harmful"].shape[1]
    tests = {
        f"{name}/{layer}": row
        for layer in range(n_layers)
        for name, row in changes({kind: x[:, layer].tolist() for kind, x in cosines.items()}, seed).items()
    }
    corrected = holm(tests)
    band = [mean(column.tolist(), seed) for column in cosines["harmful"].T]
    left = outside(cosines["random"].mean(dim=0).tolist(), band)
    return {
        "values": {kind: estimates(x, seed) for kind, x in cosines.items()},
        "changes": {name: [asdict(corrected[f"{name}/{layer}"]) for layer in range(n_layers)] for name in PAIRS},
        "random_outside": left,
        "random_statement": _random_statement(left, *cosines["harmful"].shape),
    }


def _random_statement(left: Sequence[int], n_prompts: int, n_layers: int) -> str:
    if n_prompts < LEAST_FOR_INTERVAL:
        return f"{n_prompts} prompts are too few for an interval that random suffixes could leave"
    interval = "the 95 % interval of the same prompts without suffix"
    if not left:
        return f"random suffixes keep the mean cosine within {interval} at all {n_layers} layers"
    layers = ", ".join(map(str, left))
    return f"random suffixes move the mean cosine out of {interval} at {len(left)} of {n_layers} layers: {layers}"


def heads_record(projections: Rows, heads: Heads, seed: int) -> list[dict[str, Any]]:
    """What each head writes along r_hat, per kind (prompt x layer x head in); tests corrected over heads and pairs."""
    values = {head: {kind: x[:, head[0], head[1]].tolist() for kind, x in projections.items()} for head in heads}
    tests = holm(
        {f"{name}/{head}": row for head, kinds in values.items() for name, row in changes(kinds, seed).items()}
    )
    return [
        {
            "layer": head[0],
            "head": head[1],
            "values": {kind: asdict(mean(rows, seed)) for kind, rows in values[head].items()},
            "changes": {name: asdict(tests[f"{name}/{head}"]) for name in PAIRS},
        }
        for head in heads
    ]


def sum_record(projections: Rows, heads: Heads, seed: int) -> dict[str, Any]:
    """The same for the sum of the heads."""
    values = {kind: (mean_over(x, heads) * len(heads)).tolist() for kind, x in projections.items()}
    return metric_record(values, seed)


def attention_record(masses: Rows, heads: Heads, regions: Sequence[str], seed: int) -> dict[str, Any]:
    """Attention of the last token by region, averaged over the heads (prompt x layer x head x region in)."""
    averaged = {kind: mean_over(x, heads) for kind, x in masses.items()}
    tests = holm(
        {
            f"{name}/{region}": row
            for index, region in enumerate(regions)
            for name, row in changes({kind: x[:, index].tolist() for kind, x in averaged.items()}, seed).items()
        }
    )
    return {
        "values": {
            kind: {region: asdict(mean(x[:, index].tolist(), seed)) for index, region in enumerate(regions)}
            for kind, x in averaged.items()
        },
        "changes": {name: {region: asdict(tests[f"{name}/{region}"]) for region in regions} for name in PAIRS},
    }


def restoration_record(
    none: Sequence[float], suffixed: Sequence[float], restored: Mapping[str, Sequence[float]], seed: int
) -> dict[str, Any]:
    """Refusal metric under every restoration, its change from the suffixed run, and the share of the fall returned."""
    tests = holm({name: change(suffixed, rows, seed) for name, rows in restored.items()})
    return {
        name: {
            "metric": asdict(mean(rows, seed)),
            "against_suffix": asdict(tests[name]),
            "returned": asdict(returned_share(none, suffixed, rows, seed)),
        }
        for name, rows in restored.items()
    }


CONTROLS = {"top_heads": "random_heads", "component": "random_direction"}


def control_record(restored: Mapping[str, Sequence[float]], seed: int) -> dict[str, Any]:
    """Each restoration against the mean of its control's draws, prompt by prompt, with Holm's correction."""
    tests = {}
    for name, control in CONTROLS.items():
        draws = [rows for key, rows in restored.items() if key.startswith(f"{control}/")]
        average = [sum(values) / len(values) for values in zip(*draws, strict=True)]
        tests[f"{name}_against_{control}"] = change(average, restored[name], seed)
    return {name: asdict(row) for name, row in holm(tests).items()}


def refusal_record(outcomes: Mapping[str, Mapping[str, bool | None]]) -> dict[str, Any]:
    """Refusal score of the answers per kind, and McNemar's exact tests of PAIRS with Holm's correction."""
    known = {kind: [value for value in rows.values() if value is not None] for kind, rows in outcomes.items()}
    pairs = {name: pair for name, pair in PAIRS.items() if set(pair) <= outcomes.keys()}
    tests = compare_family({name: (outcomes[a], outcomes[b], "lower") for name, (a, b) in pairs.items()})
    return {
        "values": {kind: asdict(rate(rows) if rows else _unknown()) for kind, rows in known.items()},
        "changes": {name: asdict(row) for name, row in tests.items()},
    }


def _unknown() -> Estimate:
    return Estimate(None, None, None, 0, "no answer has a verdict")
