"""Measuring that an exported model equals live directional ablation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.maths.directions import Direction
from pipeline.maths.interventions import DirectionalAblation, Intervention
from pipeline.maths.invariance import first_difference
from pipeline.model.generation import generation
from pipeline.model.generation.generation import generate
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import forward, ticking, tracing
from pipeline.model.passes.forward import last_logits
from pipeline.model.passes.intervene import intervene
from pipeline.model.passes.ticking import Advance, silent

# Some tens of blocks in float32 move logits of order ten by about 1e-4 between equal computations.
LOGIT_ROUNDING = 1e-3


@dataclass(frozen=True)
class Behaviour:
    """What two models are compared by: next-token logits and greedy tokens of the same prompts."""

    logits: Float[Tensor, "prompt d_vocab"]
    tokens: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Equivalence:
    """An exported model against live ablation of the original, on the same prompts.

    Of the prompts' greedy answers `greedy_equal` match token by token, `greedy_ties` part where both
    models' favourites are level within rounding. Cosines are the largest |cos(resid_pre, r_hat)| over
    prompts and tokens, a number per layer.
    """

    n_prompts: int
    n_tokens: int
    logit_difference_max: float
    logit_difference_mean: float
    effect_max: float
    greedy_equal: int
    greedy_ties: int
    greedy_different: int
    max_cosine_before: list[float]
    max_cosine_after: list[float]


def compare(
    original: ChatModel,
    exported: ChatModel,
    prompts: Sequence[Sequence[int]],
    direction: Direction,
    n_tokens: int,
    max_tokens: int,
    progress: Advance = silent,
) -> Equivalence:
    """Hold the exported model against live directional ablation; `effect_max` is what the ablation itself moves.

    `progress`: see `compare_tokens`.
    """
    ablation = DirectionalAblation(direction)
    plain = last_logits(original, prompts, max_tokens, progress)
    live = behaviour(original, prompts, ablation, n_tokens, max_tokens, progress)
    edited = behaviour(exported, prompts, None, n_tokens, max_tokens, progress)
    parted = contested(prompts, live, edited)
    ties = 0
    with ticking.exactly(_contested_tokens(prompts, n_tokens), progress) as advance:
        for _, tokens in parted:
            with intervene(original, ablation):
                ours = last_logits(original, [tokens], max_tokens, advance)[0]
            ties += is_tie(ours, last_logits(exported, [tokens], max_tokens, advance)[0])
    difference = (live.logits - edited.logits).abs()
    return Equivalence(
        n_prompts=len(prompts),
        n_tokens=n_tokens,
        logit_difference_max=float(difference.max()),
        logit_difference_mean=float(difference.mean()),
        effect_max=float((live.logits - plain).abs().max()),
        greedy_equal=len(prompts) - len(parted),
        greedy_ties=ties,
        greedy_different=len(parted) - ties,
        max_cosine_before=max_cosine_per_layer(original, prompts, direction.r_hat, progress),
        max_cosine_after=max_cosine_per_layer(exported, prompts, direction.r_hat, progress),
    )


def compare_tokens(model: ChatModel, prompts: Sequence[Sequence[int]], n_tokens: int) -> float:
    """Tokens by which `compare` advances, as if all answers were of full length and all parted at their end."""
    answers = generation.n_tokens(model, prompts, n_tokens, len(prompts))
    logits, cosines = 3 * forward.n_tokens(model, prompts), 2 * ticking.n_tokens(prompts)
    return logits + 2 * answers + cosines + _contested_tokens(prompts, n_tokens)


def _contested_tokens(prompts: Sequence[Sequence[int]], n_tokens: int) -> float:
    return 2 * (ticking.n_tokens(prompts) + len(prompts) * n_tokens)


def behaviour(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    intervention: Intervention,
    n_tokens: int,
    max_tokens: int,
    progress: Advance = silent,
) -> Behaviour:
    """Logits and greedy tokens of each prompt under the intervention."""
    with intervene(model, intervention):
        logits = last_logits(model, prompts, max_tokens, progress)
    batches = generate(model, prompts, intervention, n_tokens, len(prompts), max_tokens=max_tokens, progress=progress)
    rows = [item for batch in batches for item in batch]
    return Behaviour(logits, tuple(item.tokens for item in sorted(rows, key=lambda item: item.row)))


def contested(
    prompts: Sequence[Sequence[int]], live: Behaviour, export: Behaviour
) -> list[tuple[int, tuple[int, ...]]]:
    """(prompt, tokens up to the first difference) wherever the two models part."""
    places = []
    for row, prompt in enumerate(prompts):
        index = first_difference(live.tokens[row], export.tokens[row])
        if index is not None:
            places.append((row, (*prompt, *live.tokens[row][:index])))
    return places


def is_tie(live: Float[Tensor, " d_vocab"], export: Float[Tensor, " d_vocab"]) -> bool:
    """The two models' favourite tokens are level within rounding, in both models."""
    a, b = int(live.argmax()), int(export.argmax())
    return all(abs(float(logits[a] - logits[b])) <= LOGIT_ROUNDING for logits in (live, export))


def max_cosine_per_layer(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    r_hat: Float[Tensor, " d_model"],
    progress: Advance = silent,
) -> list[float]:
    """max over prompts and all their tokens of |cos(resid_pre, r_hat)|, for every layer."""
    worst = torch.zeros(model.n_layers, dtype=torch.float64)
    for prompt in prompts:
        x = tracing.resid_pre(model, [prompt], len(prompt), progress=progress)[0].double()
        cosine = (x @ r_hat.double()).abs() / x.norm(dim=-1)
        worst = torch.maximum(worst, cosine.amax(dim=0))
    return worst.tolist()
