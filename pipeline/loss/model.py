"""Cross-entropy of given text under whatever intervention is in force."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.maths.metrics import token_cross_entropy
from pipeline.model.batching import length_sorted_batches, run_batches
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.ticking import Advance, silent, ticking


@dataclass(frozen=True)
class Passage:
    """Tokens whose loss is measured, after a context whose loss is not; neither is empty."""

    context: tuple[int, ...]
    targets: tuple[int, ...]

    def __post_init__(self):
        assert min(len(self.context), len(self.targets)) > 0, "a passage needs context and targets"

    @property
    def n_targets(self) -> int:
        """Number of tokens whose loss counts."""
        return len(self.targets)

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads: the last target is only predicted."""
        return (*self.context, *self.targets[:-1])


@dataclass(frozen=True)
class Documents:
    """Passages of one kind, and how many come from each source."""

    passages: Sequence[Passage]
    sources: Mapping[str, int]

    @property
    def counts(self) -> list[int]:
        """Tokens of each whose loss counts."""
        return [passage.n_targets for passage in self.passages]


def documents(model: ChatModel, texts: Sequence[str], limit: int) -> list[Passage]:
    """Each text's first `limit` tokens, the tokenizer's BOS among them; all but the first count.

    A text of one token is left out.
    """
    rows = [tokens[:limit] for tokens in chat.encode_plain(model.tokenizer, texts, special=True)]
    return [Passage(tuple(tokens[:1]), tuple(tokens[1:])) for tokens in rows if len(tokens) > 1]


def answers(model: ChatModel, pairs: Sequence[tuple[str, str]], limit: int) -> list[Passage]:
    """(instruction, answer) as a chat: the answer's first `limit` tokens count, the prompt's do not.

    An answer without tokens is left out.
    """
    prompts = model.encode([instruction for instruction, _ in pairs])
    targets = chat.encode_plain(model.tokenizer, [answer for _, answer in pairs])
    rows = zip(prompts, targets, strict=True)
    return [Passage(tuple(prompt), tuple(answer[:limit])) for prompt, answer in rows if answer]


@torch.inference_mode()
def passage_losses(
    model: ChatModel, passages: Sequence[Passage], max_tokens: int, progress: Advance = silent
) -> list[float]:
    """Summed cross-entropy of each passage's targets, in nats, in the order given.

    Length-sorted, left-padded batches of at most `max_tokens` tokens. `progress`: see `n_tokens`.
    """
    lengths = [len(passage.inputs) for passage in passages]
    losses: dict[int, float] = {}
    batches = length_sorted_batches(lengths, max_tokens)

    def run(batch: list[int]) -> list[float]:
        return _losses(model, [passages[row] for row in batch], progress)

    for batch, sums in run_batches(batches, lengths, run):
        losses.update(zip(batch, sums, strict=True))
    return [losses[row] for row in range(len(passages))]


def n_tokens(passages: Sequence[Passage]) -> float:
    """Tokens that `passage_losses` runs."""
    return float(sum(len(passage.inputs) for passage in passages))


def _losses(model: ChatModel, passages: Sequence[Passage], progress: Advance) -> list[float]:
    padded = chat.pad_left([passage.inputs for passage in passages], model.pad_id)
    # Left padding ends every row where its last target is predicted; logits before its first are not made.
    most = max(passage.n_targets for passage in passages)
    sums, total = [], n_tokens(passages)
    # Logits at every target and their losses take the time of some blocks: two shares.
    with ticking(model.sites.blocks, total, progress, parts=2) as tick:
        logits = model.hf(**padded.inputs(model.hf), use_cache=False, logits_to_keep=most).logits
        for row, passage in zip(logits, passages, strict=True):
            sums.append(_sum(row[-passage.n_targets :], passage.targets))
            tick(2 * total / (model.n_layers + 2) / len(passages))
    return sums


def _sum(logits: Float[Tensor, "token d_vocab"], targets: Sequence[int]) -> float:
    # Row by row: a batch's logits in float32 would be the largest tensor of the pass.
    return float(token_cross_entropy(logits, chat.token_ids(targets).to(logits.device)).double().sum())
