"""Greedy answers to the same prompts in several ways that should make no difference."""

from collections.abc import Mapping, Sequence

from pipeline.model.generation.generation import generate, n_tokens
from pipeline.model.loading.loading import ChatModel
from pipeline.progress import progress

Variant = tuple[int, int]  # prompts in a batch, and tokens of left padding beyond what it needs
Tokens = tuple[int, ...]


def answers(
    model: ChatModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, variants: Mapping[str, Variant]
) -> dict[str, list[Tokens]]:
    """Tokens of the answer to every prompt, by variant."""
    every = variants.values()
    total = sum(n_tokens(model, prompts, max_new_tokens, size, padding=padding) for size, padding in every)
    made = {}
    with progress("answers", total) as bar:
        for name, (size, padding) in variants.items():
            bar.step(f"answers, {name}")
            batches = generate(model, prompts, None, max_new_tokens, size, padding=padding, progress=bar)
            by_row = {item.row: item.tokens for batch in batches for item in batch}
            made[name] = [by_row[row] for row in range(len(prompts))]
    return made
