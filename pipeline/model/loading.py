"""From a model's source to a loaded model, always by way of a local folder of safetensors."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.errors import UserError
from pipeline.model import chat
from pipeline.model.sites import Family, Sites, find_sites

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ChatModel:
    """A loaded model with what belongs to it. `position`s are the post-instruction tokens."""

    name: str
    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sites: Sites
    post_instruction: tuple[int, ...]

    @property
    def n_layers(self) -> int:
        """Number of blocks L."""
        return len(self.sites.blocks)

    @property
    def pad_id(self) -> int:
        """The id that fills padding; its value never matters, since padding is masked."""
        pad = self.tokenizer.pad_token_id
        return int(pad if isinstance(pad, int) else self.tokenizer.eos_token_id)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.hf.device


def load(name: str, folder: Path, family: Family, dtype: str = "float32", device: str = "auto") -> ChatModel:
    """Load a folder of safetensors for inference.

    Raises UserError for a folder that is not a causal language model, whose modules are not the
    family's, or whose tokenizer has no chat template.
    """
    tokenizer = _tokenizer(name, folder)
    try:
        hf = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise UserError(f"model '{name}' does not load from {folder}: {_first_line(error)}") from None
    torch.nn.Module.to(hf, _device(device))
    hf.eval().requires_grad_(False)
    sites = find_sites(hf, family)
    sites.head.register_forward_pre_hook(_contiguous)
    return ChatModel(name, hf, tokenizer, sites, tuple(chat.post_instruction_tokens(tokenizer)))


def converted_gguf(gguf: Path, folder: Path, publish: Callable[[Path, Callable[[Path], None]], Path]) -> Path:
    """Dequantise a GGUF file to float32 safetensors once; later loads are plain ones.

    `publish(folder, write)` calls `write` on a temporary folder and renames it, so that an
    interrupted conversion leaves nothing that looks whole.
    """
    return folder if folder.exists() else publish(folder, lambda target: _dequantise(gguf, target))


def _dequantise(gguf: Path, target: Path) -> None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        hf: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise UserError(f"{gguf} does not load as a GGUF model: {_first_line(error)}") from None
    # Dequantised weights stay marked as quantised, which would make save_pretrained refuse them.
    hf.hf_quantizer = None
    hf.is_quantized = False
    del hf.config.quantization_config
    hf.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"the tokenizer of '{name}' does not load from {folder}: {_first_line(error)}") from None
    chat.require_template(tokenizer, name)
    tokenizer.padding_side = "left"
    return tokenizer


def _contiguous(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    # The last position is a strided view of all positions; bfloat16 matmul on it is hundreds of times slower.
    return (args[0].contiguous(), *args[1:])


def _device(device: str) -> str:
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
