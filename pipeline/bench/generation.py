"""How fast answers are generated: against the library's `generate`, with and without ablation, by batch size.

Variants take turns, so that whatever else the machine does falls on all of them; ratios are of medians.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch

from pipeline.maths.directions import Direction
from pipeline.maths.interventions import DirectionalAblation, Intervention
from pipeline.model.decoding import Answer, Decoder, by_library
from pipeline.model.generation import generate
from pipeline.model.intervene import intervene
from pipeline.model.loading import ChatModel

LIBRARY_BATCH = 8  # rows of the plain reference: fixed, in the prompts' own order, padded on the left


@dataclass(frozen=True)
class Row:
    """One variant: median seconds of the repeats, and tokens that it generated per second."""

    name: str
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class AgainstLibrary:
    """`speedup` of ours, and how many prompts got the very same tokens."""

    rows: tuple[Row, ...]
    speedup: float
    n_equal: int
    n_prompts: int


def against_library(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
    max_tokens: int,
    repeats: int = 3,
    intervention: Intervention = None,
) -> AgainstLibrary:
    """Ours and transformers' `generate` on the same prompts under the same intervention, to the answers' ends."""

    def ours() -> list[Answer]:
        batches = generate(model, prompts, intervention, max_new_tokens, batch_size, max_tokens=max_tokens)
        found = sorted((item for batch in batches for item in batch), key=lambda item: item.row)
        return [(item.tokens, item.finished) for item in found]

    def library() -> list[Answer]:
        batches = [prompts[start : start + LIBRARY_BATCH] for start in range(0, len(prompts), LIBRARY_BATCH)]
        with torch.inference_mode(), intervene(model, intervention):
            return [answer for batch in batches for answer in by_library(model, batch, max_new_tokens, 0)]

    rows, answers = _in_turn({"ours": ours, f"generate, batch {LIBRARY_BATCH}": library}, repeats)
    first, second = answers.values()
    n_equal = sum(a == b for a, b in zip(first, second, strict=True))
    return AgainstLibrary(tuple(rows), rows[1].seconds / rows[0].seconds, n_equal, len(prompts))


def cost_of_ablation(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    direction: Direction,
    n_tokens: int,
    batch_size: int,
    max_tokens: int,
    repeats: int = 5,
) -> tuple[tuple[Row, ...], float]:
    """Rows without and with directional ablation, and seconds with over seconds without.

    Every answer has `n_tokens` tokens: ablated answers end later, which is no cost of the ablation.
    """

    def run(intervention: Intervention) -> list[Answer]:
        return _whole_answers(model, prompts, intervention, n_tokens, batch_size, max_tokens)

    variants = {"no intervention": lambda: run(None), "ablation": lambda: run(DirectionalAblation(direction))}
    rows, _ = _in_turn(variants, repeats)
    return tuple(rows), rows[1].seconds / rows[0].seconds


def by_batch_size(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    sizes: Sequence[int],
    n_tokens: int,
    max_tokens: int,
    repeats: int = 3,
) -> tuple[Row, ...]:
    """Tokens per second at each batch size, one full batch of the prompts each (repeated where they are too few)."""

    def run(size: int) -> list[Answer]:
        rows = [prompts[index % len(prompts)] for index in range(size)]
        return _whole_answers(model, rows, None, n_tokens, size, max_tokens)

    return tuple(_in_turn({f"batch {size}": lambda size=size: run(size) for size in sizes}, repeats)[0])


def _whole_answers(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    intervention: Intervention,
    n_tokens: int,
    batch_size: int,
    max_tokens: int,
) -> list[Answer]:
    """Answers that no token ends, in batches of rising length."""
    ordered = sorted(prompts, key=len)
    decoder = Decoder(model, ordered, n_tokens, max_tokens=max_tokens, stops=())
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    with torch.inference_mode(), intervene(model, intervention):
        return [answer for batch in batches for answer in decoder.answers(batch)]


def _in_turn(
    variants: Mapping[str, Callable[[], list[Answer]]], repeats: int
) -> tuple[list[Row], dict[str, list[Answer]]]:
    """Every variant once unmeasured, then each in turn `repeats` times."""
    answers = {name: run() for name, run in variants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            start = perf_counter()
            run()
            seconds[name].append(perf_counter() - start)
    rows = []
    for name, found in answers.items():
        n_tokens = sum(len(tokens) + ended for tokens, ended in found)
        rows.append(Row(name, median(seconds[name]), n_tokens / median(seconds[name])))
    return rows, answers
