"""Sentences on what lies beside a run's metrics: how stable the choice is, and what rounding changes."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.report.sentences.words import counted, listed, paragraph, percent, with_interval
from pipeline.report.tables import wording

Record = Mapping[str, Any]
MOST_OF_IT = 0.9  # of the effect of all train prompts: "nearly the whole effect"


def stability(record: Record) -> str:
    """How often val prompts drawn again choose the same, how alike two halves are, how many prompts are needed."""
    return paragraph([*_wins(record), *_margin(record), *_halves(record), *_curve(record)])


def _wins(record: Record) -> Iterator[str]:
    first, *rest = record["wins"]
    place = f"position {first['position']}, layer {first['layer']}"
    others = [f"({row['position']}, {row['layer']}) {percent(row['share'])}" for row in rest[:2]]
    behind = f"; behind it {listed(others)}" if others else ""
    yield f"Of {record['n_resamples']:,} resamples of the val prompts {percent(first['share'])} choose {place}{behind}."


def _margin(record: Record) -> Iterator[str]:
    """The winner's nearest threshold."""
    winner = record["margins"]["winner"]
    rows = {name: wording.estimate(winner[name]) for name in ("kl", "induce", "bypass") if name in winner}
    name, row = min(rows.items(), key=lambda item: item[1].value or 0)
    sure = row.low is not None and row.low > 0
    side = "" if sure else f": {row.n} prompts cannot say which side it is on"
    score = name.upper() if name == "kl" else name
    yield f"Its {score} is {with_interval(row, '{:.3f}')} nats inside of the threshold{side}."


def _halves(record: Record) -> Iterator[str]:
    halves = record["split_half_cosine"]
    if "mean" not in halves:
        return
    control = halves["shuffled_labels"]
    yield (
        "Directions of two random halves of the train prompts have cosine "
        f"{_spread(halves)} over {halves['n']} splits; with shuffled labels {_spread(control)}."
    )


def _spread(row: Record) -> str:
    return f"{row['mean']:.2f} ({row['q025']:.2f} to {row['q975']:.2f})"


def _curve(record: Record) -> Iterator[str]:
    """The fewest train prompts whose directions, each of them, have nearly the whole effect under ablation."""
    if not (rows := record["learning_curve"]):
        return
    [every] = [row for row in rows if row["n"] is None]
    before = record["baselines"]["harmful"]
    shares = {
        n: [(before - row["bypass"]) / (before - every["bypass"]) for row in rows if row["n"] == n]
        for n in sorted({row["n"] for row in rows if row["n"] is not None})
    }
    for n, found in shares.items():
        if all(min(shares[more]) >= MOST_OF_IT for more in shares if more >= n):
            yield (
                f"From {n} train prompts a class on, every direction drawn ({len(found)} of each size) lowers "
                f"the refusal metric under ablation by at least {percent(min(found))} of what all of them do."
            )
            return
    last, found = list(shares.items())[-1]
    yield (
        f"Directions of {last} train prompts a class lower the refusal metric under ablation by {percent(min(found))} "
        f"to {percent(max(found))} of what all of them do ({len(found)} draws)."
    )


def invariance(record: Record) -> str:
    """How many answers change when only the way of computing does."""
    if "variants" not in record:
        return ""
    variants = {name: (wording.estimate(row["completions"]), row) for name, row in record["variants"].items()}
    same = [_way(name) for name, (row, _) in variants.items() if row.value == 0]
    reference, n = record["reference"], {row.n for row, _ in variants.values()}
    made = f"{record['n_tokens']} tokens, batches of {reference['batch_size']}, {reference['dtype']}"
    kept = f"none changes {' or '.join(same)}" if same else ""
    changed = [
        f"{_changed(row, one['first_token'])} {_way(name)}" for name, (row, one) in variants.items() if row.value
    ]
    verdicts = sum(round(one["verdicts"]["value"] * one["verdicts"]["n"]) for _, one in variants.values())
    return paragraph(
        [
            f"Of {max(n)} answers ({made}) {'; '.join([*filter(None, [kept]), *changed])}.",
            f"{counted(verdicts, 'verdict').capitalize()} {'changes' if verdicts <= 1 else 'change'}.",
        ]
    )


def _way(name: str) -> str:
    words = {
        "repeated": "when computed again",
        "batch size": "in batches of",
        "float": "in float",
        "bfloat": "in bfloat",
    }
    for known, said in words.items():
        if name.startswith(known):
            return said + name.removeprefix(known)
    return f"with {name}"


def _changed(row: Any, first: Record | None) -> str:
    n = round((row.value or 0) * row.n)
    at = f", first at token {first['first']} to {first['last']}, median {first['median']:g}" if first else ""
    return f"{n} change ({with_interval(row)}{at})"
