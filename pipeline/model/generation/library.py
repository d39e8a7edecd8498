"""Greedy decoding by the library's own `generate`, with no setting that ships with a model."""

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.model.chat.chat import Padded
from pipeline.model.sites import input_device


def stop_tokens(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that end an answer: those the model declares, and the tokenizer's own."""
    declared = getattr(hf.generation_config, "eos_token_id", None)
    stops = set(declared if isinstance(declared, list) else [declared])
    stops.add(tokenizer.eos_token_id)  # type: ignore[arg-type]
    return {int(token) for token in stops if token is not None}


def generate(
    hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, padded: Padded, pad_id: int, max_new_tokens: int
) -> list[list[int]]:
    """New tokens of every row, the one that ends it included, then padding; positions count from the mask."""
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
    )
    return out[:, padded.input_ids.shape[1] :].tolist()
