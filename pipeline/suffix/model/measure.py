"""Measuring prompts with and without suffixes: refusal metric, readings at the last token, restorations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.maths.metrics import refusal_metric
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.forward import last_logits
from pipeline.model.passes.ticking import Advance, silent
from pipeline.results.suffix import Tokens
from pipeline.suffix.maths.attribution import random_heads, region_masses, relative_error
from pipeline.suffix.model.gcg import allowed_tokens, random_tokens
from pipeline.suffix.model.heads import LastToken, last_tokens, n_heads
from pipeline.suffix.model.regions import REGIONS, SUFFIX, Regioned, is_retokenised
from pipeline.suffix.model.restore import Component, HeadOutputs, Restoration, restored
from pipeline.suffix.model.restore import restored_tokens as pair_tokens

# Parts must add up to the residual stream within this, relative to its root mean square over prompts.
SUM_TOLERANCE = 1e-3


def tokens_of(model: ChatModel, prompts: Sequence[Regioned], suffix: str) -> Tokens:
    """Counts over the prompts of one suffix."""
    counts = [len(prompt.of(SUFFIX)) for prompt in prompts]
    return Tokens(
        min(counts),
        max(counts),
        sum(prompt.straddling > 0 for prompt in prompts),
        sum(is_retokenised(model, prompt, suffix) for prompt in prompts),
    )


def metrics(
    model: ChatModel,
    prompts: Sequence[Regioned],
    refusal_tokens: Int[Tensor, " token"],
    max_tokens: int,
    progress: Advance = silent,
) -> list[float]:
    """Refusal metric of every prompt, nats."""
    logits = last_logits(model, [prompt.tokens for prompt in prompts], max_tokens, progress)
    return refusal_metric(logits, refusal_tokens).tolist()


def random_suffixes(model: ChatModel, instructions: Sequence[str], n_tokens: int, draws: int, seed: int) -> list[str]:
    """Random suffixes of as many tokens in every prompt; printable ASCII, drawn evenly from the vocabulary."""
    allowed = allowed_tokens(model)
    rows = [random_tokens(model, instructions, allowed, n_tokens, seed * 1000 + draw) for draw in range(draws)]
    return [str(model.tokenizer.decode(row.tolist())).removeprefix(" ") for row in rows]


@dataclass(frozen=True)
class Reading:
    """Prompts at their last token as nested lists, so that it is the same from memory and from disk.

    `cosine`: prompt x layer. `heads`: prompt x layer x head, projections on r_hat. `masses`: prompt x
    layer x head x region. `parts`: means over prompts of what the embedding, the heads, the biases of
    W_O and the MLPs write along r_hat, and of their sum. The errors are relative.
    """

    cosine: list[Any]
    heads: list[Any]
    masses: list[Any]
    parts: dict[str, float]
    sum_error: float
    heads_error: float
    lost_mass: float = field(default=0.0)


def read(
    model: ChatModel,
    prompts: Sequence[Regioned],
    r_hat: Float[Tensor, " d_model"],
    max_tokens: int,
    progress: Advance = silent,
) -> Reading:
    """Everything read at the last token, and how well its parts add up."""
    rows = last_tokens(model, [prompt.tokens for prompt in prompts], r_hat, max_tokens, progress)
    masses = [
        region_masses(row.attention, torch.tensor(prompt.regions), len(REGIONS))
        for row, prompt in zip(rows, prompts, strict=True)
    ]
    heads = torch.stack([row.heads for row in rows])
    written = heads.sum(dim=2) + torch.stack([row.constants for row in rows])
    return Reading(
        cosine=torch.stack([row.cosine for row in rows]).tolist(),
        heads=heads.tolist(),
        masses=torch.stack(masses).tolist(),
        parts=_parts(rows),
        sum_error=relative_error(torch.stack([row.summed for row in rows]), torch.stack([row.resid for row in rows])),
        heads_error=relative_error(written, torch.stack([row.attention_writes for row in rows])),
        lost_mass=float(1 - torch.stack(masses).sum(dim=-1).min()),
    )


def _parts(rows: Sequence[LastToken]) -> dict[str, float]:
    def average(value: Callable[[LastToken], Tensor | float]) -> float:
        return float(torch.stack([torch.as_tensor(value(row), dtype=torch.float64).sum() for row in rows]).mean())

    return {
        "embedding": average(lambda row: row.embedding),
        "heads": average(lambda row: row.heads),
        "biases": average(lambda row: row.constants),
        "mlps": average(lambda row: row.mlp),
        "residual_stream": average(lambda row: row.resid[-1]),
    }


def averaged(readings: Sequence[Reading], name: str) -> Tensor:
    """One part of several readings of the same instructions, averaged prompt by prompt, float64."""
    return torch.stack([torch.tensor(getattr(one, name), dtype=torch.float64) for one in readings]).mean(dim=0)


@dataclass(frozen=True)
class Plan:
    """What is restored: the top heads and as many random ones, and the direction's component."""

    heads: tuple[tuple[int, int], ...]
    n_random: int
    seed: int


def restorations(model: ChatModel, r_hat: Float[Tensor, " d_model"], plan: Plan) -> dict[str, Restoration]:
    """Every restoration by name; `random_heads/i`, `random_direction/i` and `component_at/layer` are groups.

    At all post-instruction tokens; those that end in `last_token` at the last alone.
    """
    n, layers = len(model.post_instruction), tuple(range(model.n_layers))
    every = tuple((layer, head) for layer in layers for head in range(n_heads(model)))
    found: dict[str, Restoration] = {
        "nothing": None,
        "top_heads": HeadOutputs(plan.heads, n),
        "top_heads/last_token": HeadOutputs(plan.heads, 1),
        "all_heads": HeadOutputs(every, n),
        "component": Component(r_hat, layers, n),
        "component/last_token": Component(r_hat, layers, 1),
    }
    for draw in range(plan.n_random):
        seed = plan.seed * 1000 + draw
        others = random_heads(plan.heads, model.n_layers, n_heads(model), seed)
        found[f"random_heads/{draw}"] = HeadOutputs(tuple(others), n)
        vector = torch.randn(len(r_hat), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found[f"random_direction/{draw}"] = Component(vector / vector.norm(), layers, n)
    return found | {f"component_at/{layer}": Component(r_hat, (layer,), n) for layer in layers}


def restored_tokens(
    model: ChatModel, plain: Sequence[Regioned], suffixed: Sequence[Regioned], n_restorations: int
) -> float:
    """Tokens that `restored_metrics` runs."""
    without, with_suffix = ([prompt.tokens for prompt in prompts] for prompts in (plain, suffixed))
    return pair_tokens(model, without, with_suffix, n_restorations)


def restored_metrics(
    model: ChatModel,
    plain: Sequence[Regioned],
    suffixed: Sequence[Regioned],
    wanted: dict[str, Restoration],
    refusal_tokens: Int[Tensor, " token"],
    max_tokens: int,
    progress: Advance = silent,
) -> dict[str, list[float]]:
    """Refusal metric of every suffixed prompt under every restoration, nats."""
    values = restored(
        model,
        [prompt.tokens for prompt in plain],
        [prompt.tokens for prompt in suffixed],
        list(wanted.values()),
        partial(refusal_metric, refusal_tokens=refusal_tokens),
        max_tokens,
        progress,
    )
    return dict(zip(wanted, values.tolist(), strict=True))
