"""From a model's source to a loaded model, always by way of a local folder of safetensors."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.errors import UserError
from pipeline.model import chat, selfcheck
from pipeline.model.chatformat import PLAIN, ChatFormat
from pipeline.model.family import Family
from pipeline.model.sites import Sites, find_sites

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ChatModel:
    """A loaded model with what belongs to it. `position`s are the post-instruction tokens."""

    name: str
    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sites: Sites
    post_instruction: tuple[int, ...]
    report: selfcheck.Report
    format: ChatFormat

    @property
    def n_layers(self) -> int:
        """Number of blocks L."""
        return len(self.sites.blocks)

    def encode(self, instructions: Sequence[str], thoughts: bool = False) -> list[list[int]]:
        """Token ids of each instruction's chat prompt, in the model's format."""
        return chat.encode(self.tokenizer, instructions, self.format, thoughts)

    @property
    def pad_id(self) -> int:
        """The id that fills padding; its value never matters, since padding is masked."""
        pad = self.tokenizer.pad_token_id
        return int(pad if isinstance(pad, int) else self.tokenizer.eos_token_id)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.hf.device


def load(
    name: str,
    folder: Path,
    family: Family,
    dtype: str = "float32",
    device: str = "auto",
    chat_format: ChatFormat = PLAIN,
) -> ChatModel:
    """Load a folder of safetensors for inference.

    Raises UserError for a folder that is not a causal language model, whose architecture, modules or
    activations are not the family's (see `selfcheck`), or whose tokenizer has no chat template.
    """
    require_family(name, folder, family)
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
    report = selfcheck.check(name, hf, tokenizer, sites, chat_format)
    tail = tuple(chat.post_instruction_tokens(tokenizer, chat_format))
    return ChatModel(name, hf, tokenizer, sites, tail, report, chat_format)


def require_family(name: str, folder: Path, family: Family) -> None:
    """Raises UserError when the folder's config.json names another architecture than the family's."""
    if family.remote_code:
        raise UserError(f"model '{name}' is of family '{family.name}', which is refused: {family.remote_code}")
    model_type = _model_type(name, folder)
    if model_type not in family.model_types:
        raise UserError(
            f"model '{name}' has architecture '{model_type}', but family '{family.name}' describes "
            f"{', '.join(family.model_types)}: set the model's family in conf/model/ to one whose model_types has it"
        )


def _model_type(name: str, folder: Path) -> str:
    path = folder / "config.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("model_type"))
    except (OSError, ValueError) as error:
        raise UserError(f"model '{name}' has no readable {path} ({_first_line(error)})") from None


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
