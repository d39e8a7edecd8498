"""From a model's source to a loaded model, always by way of a local folder of safetensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.config.chat import PLAIN, ChatFormat
from pipeline.config.family import Family
from pipeline.disk.files import read_object
from pipeline.errors import UserError, first_line
from pipeline.model.chat import chat, limits, thoughts
from pipeline.model.loading import selfcheck, settings, whole
from pipeline.model.loading.foreign import Watch, library_errors, shown, tokenizer_of, unwatched
from pipeline.model.loading.placement import Memory, Placement, plan, scratch, skeleton
from pipeline.model.loading.quantized import BYTES, quantization
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
    shipped: Mapping[str, Any]
    """Generation settings that came with it, none of which is in force."""

    @property
    def n_layers(self) -> int:
        """Number of blocks L."""
        return len(self.sites.blocks)

    def encode(self, instructions: Sequence[str], thoughts: bool = False, system: str | None = None) -> list[list[int]]:
        """Token ids of each instruction's chat prompt, in the model's format.

        Raises UserError for prompts that the model cannot read.
        """
        prompts = chat.encode(self.tokenizer, instructions, self.format, thoughts, system)
        limits.require_readable(self.name, self.hf, prompts)
        return prompts

    def facts(self) -> dict[str, str]:
        """sha256 of tokenizer and chat template as loaded, and the kind of device that runs the model."""
        return {
            "tokenizer": chat.tokenizer_hash(self.tokenizer),
            "chat_template": chat.template_hash(self.tokenizer, self.format),
            "device": self.device.type,
        }

    def described(self) -> dict[str, str]:
        """Its facts, and the system prompt of prompts that are given none."""
        return {**self.facts(), "system": chat.own_system(self.tokenizer, self.format)}

    @property
    def pad_id(self) -> int:
        """The id that fills padding; its value never matters, since padding is masked."""
        return limits.pad_id(self.tokenizer, self.hf)

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
    activations are not the family's (see `selfcheck`), whose files lack a tensor, have one too many or one of another
    shape (see `whole`), or whose tokenizer has no chat template. No code that ships with a model runs, and of its
    generation settings none is in force.
    `watch` is told of tensors read and of the checks, `note` what else a user should know.
    """
    require_family(name, folder, family)
    tokenizer = open_tokenizer(name, folder, chat_format)
    for remark in thoughts.remarks(tokenizer, chat_format):
        note(remark)
    packing = quantization(folder, DTYPES[dtype], quantize)
    stored = whole.require_files(name, folder)
    with library_errors(f"model '{name}' does not load from {folder}"):
        empty = skeleton(folder, DTYPES[dtype])
        unread = whole.account(name, empty, stored).unread if stored else ()
        placement = _placement(name, empty, folder, device_of(device), memory, _packing(DTYPES[dtype], quantize), note)
        with shown(watch, "reading weights"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=DTYPES[dtype],
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                device_map=placement.device_map,
                offload_folder=str(scratch(memory)) if placement.on_disk else None,
                **({"quantization_config": packing} if packing else {}),
            )
    hf, report = loaded
    whole.require_loaded(name, report)
    if own_code(folder):
        note(f"'{name}' ships code of its own, which is never run: the library's classes of its architecture are used")
    if unread:
        note(f"model '{name}' has {len(unread)} tensors that its architecture leaves out, such as '{unread[0]}'")
    set_aside = settings.set_aside(hf)
    if set_aside:
        note(f"generation settings that ship with '{name}' are not applied: {', '.join(set_aside)}")
    hf.eval().requires_grad_(False)
    sites = find_sites(hf, family)
    sites.head.register_forward_pre_hook(contiguous)
    checked = selfcheck.check(name, hf, tokenizer, sites, chat_format, watch)
    tail = tuple(chat.post_instruction_tokens(tokenizer, chat_format))
    return ChatModel(name, hf, tokenizer, sites, tail, checked, chat_format, set_aside)


def _placement(
    name: str,
    empty: PreTrainedModel,
    folder: Path,
    device: str,
    memory: Memory,
    packing: float,
    note: Callable[[str], None],
) -> Placement:
    placement = plan(empty, folder, device, memory, packing)
    if placement.modules != {"": device}:
        slow = "; what is on disk is read in every forward pass" if placement.on_disk else ""
        note(f"model '{name}' does not fit on {device}: {placement}{slow}")
    return placement


def _packing(dtype: torch.dtype, quantize: str) -> float:
    """Bytes of weights in memory per byte of plain ones."""
    return BYTES[quantize] / dtype.itemsize if quantize else 1.0


def require_family(name: str, folder: Path, family: Family) -> None:
    """Raises UserError when the folder's config.json names another architecture than the family's."""
    if family.remote_code:
        raise UserError(f"model '{name}' is of family '{family.name}', which is refused: {family.remote_code}")
    found = model_type(name, folder)
    if found not in family.model_types:
        raise UserError(
            f"model '{name}' has architecture '{found}', but family '{family.name}' describes "
            f"{', '.join(family.model_types)}: set the model's family in conf/model/ to one whose model_types has it"
        )


def model_type(name: str, folder: Path) -> str:
    """The architecture that the folder's config.json names. Raises UserError when it is not readable."""
    path = folder / "config.json"
    try:
        return str(read_object(path).get("model_type"))
    except UserError as error:
        raise UserError(f"model '{name}' has no readable {path} ({first_line(error)})") from None


def own_code(folder: Path) -> bool:
    """The folder's configuration or tokenizer asks for code that ships with it (`auto_map`)."""
    names = ("config.json", "tokenizer_config.json", "generation_config.json")
    found = [read_object(folder / name) for name in names if (folder / name).exists()]
    return any("auto_map" in values for values in found)


def open_tokenizer(name: str, folder: Path, chat_format: ChatFormat = PLAIN) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, padding left. Raises UserError when it does not load or has no template."""
    tokenizer = tokenizer_of(f"the tokenizer of '{name}' does not load from {folder}", folder)
    chat.require_template(tokenizer, name, chat_format)
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
