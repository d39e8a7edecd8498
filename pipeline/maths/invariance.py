"""What changes between two sets of greedy completions of the same prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.maths.statistics import Estimate, rate


@dataclass(frozen=True)
class FirstToken:
    """Where changed completions part from the others: median and range of the place, from 1, over `n` that changed."""

    median: float
    first: int
    last: int
    n: int


@dataclass(frozen=True)
class Changes:
    """Share of completions that differ in any token, where they part (None: none does), and changed verdicts."""

    completions: Estimate
    first_token: FirstToken | None
    verdicts: Estimate


def changes(
    reference: Sequence[Sequence[int]],
    other: Sequence[Sequence[int]],
    refused: Sequence[bool | None],
    other_refused: Sequence[bool | None],
) -> Changes:
    """Completions token by token, verdicts one by one."""
    parted = [first_difference(a, b) for a, b in zip(reference, other, strict=True)]
    places = [1 + index for index in parted if index is not None]
    return Changes(
        completions=rate([index is not None for index in parted]),
        first_token=FirstToken(float(np.median(places)), min(places), max(places), len(places)) if places else None,
        verdicts=rate([a is not b for a, b in zip(refused, other_refused, strict=True)]),
    )


def first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    """Index of the first token in which two completions differ; an end is a difference. None if they are equal."""
    if tuple(a) == tuple(b):
        return None
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
