"""Forward passes that end in next-token logits."""

import copy
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from pipeline.model import chat
from pipeline.model.batching import length_sorted_batches, run_batches
from pipeline.model.loading import ChatModel

Logits = Float[Tensor, "prompt d_vocab"]


@torch.inference_mode()
def last_logits(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    progress: Callable[[int], None] = lambda rows: None,
) -> Float[Tensor, "prompt d_vocab"]:
    """Next-token logits after each prompt, float32 on the CPU, in the order given.

    The tokens that all prompts share at their start are run once; the rest in length-sorted
    batches of at most `max_tokens` tokens. Runs under whatever intervention is in force.
    """
    n_shared = chat.shared_prefix(prompts) if len(prompts) > 1 and _sees_all(model, max(map(len, prompts))) else 0
    prefix = _run_prefix(model, list(prompts[0][:n_shared])) if n_shared else None
    rests = [tokens[n_shared:] for tokens in prompts]
    batches = length_sorted_batches([len(rest) for rest in rests], max_tokens)
    rows: dict[int, Tensor] = {}

    def run(batch: list[int]) -> Tensor:
        padded = chat.pad_left([rests[row] for row in batch], model.pad_id, n_before=n_shared)
        return _forward(model, padded, _expanded(prefix, len(batch))).float().cpu()

    for batch, logits in run_batches(batches, [len(tokens) for tokens in prompts], run):
        rows.update(zip(batch, logits, strict=True))
        progress(len(batch))
    return torch.stack([rows[row] for row in range(len(prompts))])


@torch.inference_mode()
def all_logits(model: ChatModel, tokens: Sequence[int]) -> Float[Tensor, "token d_vocab"]:
    """Logits at every token of one sequence, float32 on the model's device."""
    ids = torch.tensor([list(tokens)], device=model.device)
    return model.hf(input_ids=ids, use_cache=False).logits[0].float()


def _sees_all(model: ChatModel, n_tokens: int) -> bool:
    """No layer's sliding window is shorter: windows count padding, which here lies between the prefix and the rest."""
    window = getattr(model.hf.config.get_text_config(), "sliding_window", None)
    return window is None or n_tokens <= window


def _run_prefix(model: ChatModel, tokens: list[int]) -> DynamicCache:
    cache = DynamicCache(config=model.hf.config)
    ids = torch.tensor([tokens], device=model.device)
    model.hf(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def _expanded(prefix: DynamicCache | None, n_rows: int) -> DynamicCache | None:
    if prefix is None:
        return None
    cache = copy.deepcopy(prefix)
    cache.batch_repeat_interleave(n_rows)
    return cache


def _forward(model: ChatModel, padded: chat.Padded, cache: DynamicCache | None) -> Tensor:
    output = model.hf(
        **padded.inputs(model.hf),
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=1,
    )
    return output.logits[:, -1]
