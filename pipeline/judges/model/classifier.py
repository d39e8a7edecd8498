"""Safety judges that are language models, loaded from a folder; `classify` puts them to work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipeline.disk.files import read_object
from pipeline.errors import UserError, first_line
from pipeline.judges.formats.formats import Format
from pipeline.judges.model.adapter import add_adapter
from pipeline.model.loading import settings, whole
from pipeline.model.loading.foreign import Watch, config_of, library_errors, shown, tokenizer_of, unwatched
from pipeline.model.loading.loading import DTYPES, UNLIMITED, contiguous
from pipeline.model.loading.placement import Memory, plan, scratch, skeleton

# Llama Guard 4's configuration leaves this empty, and without it no attention mask can be made.
ATTENTION_CHUNK = 8192


@dataclass(frozen=True)
class Classifier:
    """A loaded judge."""

    form: Format
    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def pad_id(self) -> int:
        """The id that fills padding, which is masked."""
        ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(token for token in ids if isinstance(token, int))

    @property
    def longest(self) -> int:
        """Most tokens of a prompt that the model can read."""
        positions = getattr(self.hf.config.get_text_config(), "max_position_embeddings", None)
        return (positions or 10**9) - self.form.max_new_tokens


def load(
    form: Format,
    folder: Path,
    adapter: Path | None = None,
    dtype: str = "bfloat16",
    device: str = "auto",
    memory: Memory = UNLIMITED,
    watch: Watch = unwatched,
) -> Classifier:
    """Load a judge from a folder of safetensors; of one with a `base`, that model's folder and its own as `adapter`.

    Raises UserError for a folder that is missing, of another architecture or incomplete, and for a tokenizer without
    the chat template or the tokens that the judge needs. `watch` is told of tensors read.
    """
    _require_architecture(form, folder)
    if (form.base is None) != (adapter is None):
        needs = f"is {form.repo} added to {form.base[0]}: give both folders" if form.base else "takes no adapter"
        raise UserError(f"judge '{form.name}' {needs}")
    tokenizer = _tokenizer(form, folder)
    with shown(watch, "reading weights"):
        hf = _weights(form, folder, DTYPES[dtype], _device(device), memory)
    if adapter is not None:
        add_adapter(form.name, hf, adapter)
    hf.eval().requires_grad_(False)
    head = hf.get_output_embeddings()
    assert head is not None, "a language model has a head"
    head.register_forward_pre_hook(contiguous)
    return Classifier(form, hf, tokenizer)


def _require_architecture(form: Format, folder: Path) -> None:
    try:
        found = read_object(folder / "config.json").get("model_type")
    except UserError as error:
        raise UserError(
            f"judge '{form.name}' has no readable {folder / 'config.json'} ({first_line(error)}): fetch {form.repo}"
        ) from None
    if found not in form.model_types:
        raise UserError(
            f"judge '{form.name}' is a model of architecture {' or '.join(form.model_types)}, and {folder} holds "
            f"'{found}': fetch {form.base[0] if form.base else form.repo}"
        )


def _tokenizer(form: Format, folder: Path) -> PreTrainedTokenizerBase:
    tokenizer = tokenizer_of(f"the tokenizer of judge '{form.name}' does not load from {folder}", folder)
    if form.is_chat and not tokenizer.chat_template:
        raise UserError(f"judge '{form.name}': the tokenizer in {folder} has no chat template, and {form.repo} has one")
    if lacking := [choice for choice in form.choices if choice not in tokenizer.get_vocab()]:
        raise UserError(
            f"judge '{form.name}': the tokenizer in {folder} has no token {', '.join(lacking)}: use that of {form.repo}"
        )
    tokenizer.truncation_side = form.clip_side
    return tokenizer


def _weights(form: Format, folder: Path, dtype: torch.dtype, device: str, memory: Memory) -> PreTrainedModel:
    whole.require_files(form.name, folder)
    with library_errors(f"judge '{form.name}' does not load from {folder}"):
        config = config_of(folder)
        text = config.get_text_config()
        if getattr(text, "attention_chunk_size", ATTENTION_CHUNK) is None:
            text.attention_chunk_size = ATTENTION_CHUNK
        placement = plan(skeleton(folder, dtype), folder, device, memory)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            device_map=placement.device_map,
            offload_folder=str(scratch(memory)) if placement.on_disk else None,
            output_loading_info=True,
        )
        hf, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"judge '{form.name}': {folder} lacks {len(missing)} weights, {missing[0]} first: fetch it again"
        )
    settings.set_aside(hf)
    return hf


def _device(device: str) -> str:
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    return "cuda:0" if device == "cuda" else device
