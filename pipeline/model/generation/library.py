"""Answers by the library's own `generate`, greedy or drawn, with no setting that ships with a model."""

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipeline.maths.sampling import Draws, next_tokens
from pipeline.model.chat.chat import Padded
from pipeline.model.sites import input_device


def stop_tokens(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that end an answer: those the model declares, and the tokenizer's own."""
    declared = getattr(hf.generation_config, "eos_token_id", None)
    stops = set(declared if isinstance(declared, list) else [declared])
    stops.add(tokenizer.eos_token_id)  # type: ignore[arg-type]
    return {int(token) for token in stops if token is not None}


class _Drawn(LogitsProcessor):
    """Leaves of each row's logits the token that is drawn, so that the library takes it for the likeliest."""

    def __init__(self, draws: Draws, n_prompt_tokens: int):
        self._draws, self._n_prompt_tokens = draws, n_prompt_tokens

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        step = input_ids.shape[1] - self._n_prompt_tokens
        tokens = next_tokens(scores, self._draws, range(len(scores)), step)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None].to(scores.device), 0.0)  # type: ignore[return-value]


def generate(
    hf: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    padded: Padded,
    pad_id: int,
    max_new_tokens: int,
    draws: Draws | None = None,
) -> list[list[int]]:
    """New tokens of every row, the one that ends it included, then padding; positions count from the mask.

    `draws`: by which the tokens of each row are drawn; None: greedy.
    """
    device = input_device(hf)
    out: torch.Tensor = hf.generate(  # type: ignore[operator]
        input_ids=padded.input_ids.to(device),
        attention_mask=padded.attention_mask.to(device),
        # A fresh config: sampling and length settings that ship with a model must not apply.
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            pad_token_id=pad_id,
            eos_token_id=sorted(stop_tokens(hf, tokenizer)) or None,
            bos_token_id=tokenizer.bos_token_id,
        ),
        # The library's own sampling draws for a whole batch from one generator, so that answers depend on the batch.
        logits_processor=LogitsProcessorList([_Drawn(draws, padded.input_ids.shape[1])] if draws else []),
    )
    return out[:, padded.input_ids.shape[1] :].tolist()
