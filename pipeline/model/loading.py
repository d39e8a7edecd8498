"""From a model's source to a loaded model, always by way of a local folder of safetensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.artifacts.files import read_object
from pipeline.errors import UserError, first_line
from pipeline.model import chat, selfcheck
from pipeline.model.chatformat import PLAIN, ChatFormat
from pipeline.model.family import Family
from pipeline.model.foreign import Watch, shown, unwatched
from pipeline.model.memory import Memory, Placement, plan, scratch, skeleton
from pipeline.model.quantized import BYTES, quantization
from pipeline.model.sites import Sites, find_sites, input_device

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
UNLIMITED = Memory()


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

    def encode(self, instructions: Sequence[str], thoughts: bool = False, system: str | None = None) -> list[list[int]]:
        """Token ids of each instruction's chat prompt, in the model's format."""
        return chat.encode(self.tokenizer, instructions, self.format, thoughts, system)

    def facts(self) -> dict[str, str]:
        """sha256 of tokenizer and chat template as loaded, and the kind of device that runs the model."""
        return {
            "tokenizer": chat.tokenizer_hash(self.tokenizer),
            "chat_template": chat.template_hash(self.tokenizer),
            "device": self.device.type,
        }

    @property
    def pad_id(self) -> int:
        """The id that fills padding; its value never matters, since padding is masked."""
        pad = self.tokenizer.pad_token_id
        return int(pad if isinstance(pad, int) else self.tokenizer.eos_token_id)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return input_device(self.hf)


def load(
    name: str,
    folder: Path,
    family: Family,
    dtype: str = "float32",
    device: str = "auto",
    chat_format: ChatFormat = PLAIN,
    memory: Memory = UNLIMITED,
    quantize: str = "",
    watch: Watch = unwatched,
    note: Callable[[str], None] = lambda text: None,
) -> ChatModel:
    """Load a folder of safetensors for inference, spread over GPUs, CPU and disk when one device is too small.

    Raises UserError for a folder that is not a causal language model, whose architecture, modules or
    activations are not the family's (see `selfcheck`), or whose tokenizer has no chat template.
    `watch` is told of tensors read and of the checks, `note` what else a user should know.
    """
    require_family(name, folder, family)
    tokenizer = open_tokenizer(name, folder)
    packing = quantization(folder, DTYPES[dtype], quantize)
    try:
        placement = _placement(name, folder, DTYPES[dtype], device_of(device), memory, quantize, note)
        with shown(watch, "reading weights"):
            hf = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=DTYPES[dtype],
                local_files_only=True,
                use_safetensors=True,
                device_map=placement.device_map,
                offload_folder=str(scratch(memory)) if placement.on_disk else None,
                **({"quantization_config": packing} if packing else {}),
            )
    except (OSError, ValueError) as error:
        raise UserError(f"model '{name}' does not load from {folder}: {first_line(error)}") from None
    hf.eval().requires_grad_(False)
    sites = find_sites(hf, family)
    sites.head.register_forward_pre_hook(contiguous)
    report = selfcheck.check(name, hf, tokenizer, sites, chat_format, watch)
    tail = tuple(chat.post_instruction_tokens(tokenizer, chat_format))
    return ChatModel(name, hf, tokenizer, sites, tail, report, chat_format)


def _placement(
    name: str,
    folder: Path,
    dtype: torch.dtype,
    device: str,
    memory: Memory,
    quantize: str,
    note: Callable[[str], None],
) -> Placement:
    packing = BYTES[quantize] / dtype.itemsize if quantize else 1.0
    placement = plan(skeleton(folder, dtype), folder, device, memory, packing)
    if placement.modules != {"": device}:
        slow = "; what is on disk is read in every forward pass" if placement.on_disk else ""
        note(f"model '{name}' does not fit on {device}: {placement}{slow}")
    return placement


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
        return str(read_object(path).get("model_type"))
    except UserError as error:
        raise UserError(f"model '{name}' has no readable {path} ({first_line(error)})") from None


def open_tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, padding left. Raises UserError when it does not load or has no template."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"the tokenizer of '{name}' does not load from {folder}: {first_line(error)}") from None
    chat.require_template(tokenizer, name)
    tokenizer.padding_side = "left"
    return tokenizer


def contiguous(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    # The last position is a strided view of all positions; bfloat16 matmul on it is hundreds of times slower.
    # Of one prompt it counts as contiguous and is as slow, so it is copied whatever it says.
    return (args[0].clone(memory_format=torch.contiguous_format), *args[1:])


def device_of(device: str) -> str:
    if device != "auto":
        return "cuda:0" if device == "cuda" else device
    return "cuda:0" if torch.cuda.is_available() else "cpu"
