"""A random tiny model of every family, and of what one family file covers beside its own."""

from pathlib import Path

import torch

from pipeline.config.compose import family
from pipeline.export import families
from pipeline.maths.directions import Direction
from pipeline.model.loading.random_model import write_random_model

NAMES = families.names()
# What one family file covers beside its tiny model.
VARIANTS = {
    "falcon, one norm, no biases": ("falcon", {"new_decoder_architecture": False, "bias": False, "multi_query": True}),
    "falcon, sequential, ALiBi": (
        "falcon",
        {
            "new_decoder_architecture": False,
            "parallel_attn": False,
            "alibi": True,
            "multi_query": False,
            "num_kv_heads": 4,
        },
    ),
    "gpt_neox, sequential": ("gpt_neox", {"use_parallel_residual": False}),
    "llama, tied, no biases": (
        "llama",
        {"attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True},
    ),
    "qwen2, untied": ("qwen2", {"tie_word_embeddings": False}),
    "qwen2_moe, dense blocks between": ("qwen2_moe", {"decoder_sparse_step": 2}),
    "mixtral, sliding window": ("mixtral", {"sliding_window": 8}),
    "phi3, partial rotation": ("phi3", {"partial_rotary_factor": 0.5}),
}


def tiny(name: str, folder: Path, **options) -> Path:
    described = family(name)
    folder.mkdir()
    write_random_model(folder, described.tiny["model_type"], 0, {**described.tiny["options"], **options})
    return folder


def direction(width: int = 32) -> Direction:
    generator = torch.Generator().manual_seed(1)
    return Direction(torch.randn(width, generator=generator, dtype=torch.float64), layer=2, position=-1)
