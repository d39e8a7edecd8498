"""Cross-entropy of given text under whatever intervention is in force."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pipeline.maths.metrics import token_cross_entropy
from pipeline.model.batching import run_batches
from pipeline.model.forward import all_logits
from pipeline.model.loading import ChatModel


@dataclass(frozen=True)
class Passage:
    """Tokens whose loss is measured, after a context whose loss is not; neither is empty."""

    context: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def n_targets(self) -> int:
        """Number of tokens that the loss is a mean of."""
        return len(self.targets)


@torch.inference_mode()
def passage_losses(
    model: ChatModel, passages: Sequence[Passage], progress: Callable[[int], None] = lambda rows: None
) -> list[float]:
    """Mean cross-entropy per target token of each passage, in nats."""
    losses = []
    lengths = [len(passage.context) + passage.n_targets for passage in passages]
    alone = [[row] for row in range(len(passages))]
    for _, loss in run_batches(alone, lengths, lambda batch: _loss(model, passages[batch[0]])):
        losses.append(loss)
        progress(1)
    return losses


def _loss(model: ChatModel, passage: Passage) -> float:
    assert min(len(passage.context), len(passage.targets)) > 0, "a passage needs context and targets"
    logits = all_logits(model, (*passage.context, *passage.targets))
    predicted = logits[len(passage.context) - 1 : -1]
    targets = torch.tensor(passage.targets, device=logits.device)
    return float(token_cross_entropy(predicted, targets).double().mean())
