"""The three scores of a candidate direction (paper, section 2.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition, DirectionalAblation
from pipeline.maths.metrics import kl_divergence, refusal_metric
from pipeline.maths.selection import Baselines, CandidateScores
from pipeline.model.forward import last_logits
from pipeline.model.intervene import intervene
from pipeline.model.loading import ChatModel


@dataclass(frozen=True)
class Validation:
    """Val prompts as tokens, and what the unchanged model answers to them."""

    harmful: Sequence[Sequence[int]]
    harmless: Sequence[Sequence[int]]
    refusal_tokens: Int[Tensor, " token"]
    harmless_logits: Float[Tensor, "prompt d_vocab"]
    baselines: Baselines

    @property
    def sizes(self) -> dict[str, int]:
        """Number of prompts of each class."""
        return {"harmful": len(self.harmful), "harmless": len(self.harmless)}


def prepare(
    model: ChatModel,
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    refusal_tokens: Int[Tensor, " token"],
    max_tokens: int,
) -> Validation:
    """Run the unchanged model once over the val prompts."""
    logits = last_logits(model, [*harmful, *harmless], max_tokens)
    metric = refusal_metric(logits, refusal_tokens)
    n = len(harmful)
    baselines = Baselines(float(metric[:n].mean()), float(metric[n:].mean()))
    return Validation(harmful, harmless, refusal_tokens, logits[n:], baselines)


def score(
    model: ChatModel, direction: Direction, validation: Validation, coefficient: float, max_tokens: int
) -> CandidateScores:
    """bypass and kl under ablation of the direction, induce with `coefficient` times it added."""
    n = len(validation.harmful)
    with intervene(model, DirectionalAblation(direction)):
        ablated = last_logits(model, [*validation.harmful, *validation.harmless], max_tokens)
    with intervene(model, ActivationAddition(direction, coefficient)):
        added = last_logits(model, validation.harmless, max_tokens)
    return CandidateScores(
        position=direction.position,
        layer=direction.layer,
        bypass=float(refusal_metric(ablated[:n], validation.refusal_tokens).mean()),
        induce=float(refusal_metric(added, validation.refusal_tokens).mean()),
        kl=float(kl_divergence(validation.harmless_logits, ablated[n:]).mean()),
    )


def candidates(r: Float[Tensor, "position layer d_model"], max_layer: int) -> list[Direction]:
    """Every (position, layer) below `max_layer` as a direction; later layers can never be chosen."""
    n_positions, n_layers, _ = r.shape
    return [
        Direction(r[index, layer], layer, index - n_positions)
        for index in range(n_positions)
        for layer in range(min(max_layer, n_layers))
    ]
