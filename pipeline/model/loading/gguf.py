"""GGUF files: dequantised once, then loaded as any other model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from pipeline.model.loading import whole
from pipeline.model.loading.foreign import Watch, library_errors, shown, tokenizer_of, unwatched

HOW_IT_WAS_LOADED = ("is_local", "local_files_only")  # would be saved with the tokenizer, and exported


def converted(
    gguf: Path,
    folder: Path,
    publish: Callable[[Path, Callable[[Path], None]], Path],
    watch: Watch = unwatched,
    note: Callable[[str], None] = lambda text: None,
) -> Path:
    """Dequantise a GGUF file to float32 safetensors once; later loads are plain ones.

    `publish(folder, write)` calls `write` on a temporary folder and renames it, so that an
    interrupted conversion leaves nothing that looks whole. `watch` is told of tensors, `note` of steps.
    """
    return folder if folder.exists() else publish(folder, lambda target: _dequantise(gguf, target, watch, note))


def _dequantise(gguf: Path, target: Path, watch: Watch, note: Callable[[str], None]) -> None:
    note(f"converting {gguf.name}, once: reading the tokenizer")
    what = f"{gguf} does not load as a GGUF model"
    tokenizer = tokenizer_of(what, gguf.parent, gguf.name)
    with library_errors(what):
        note(f"converting {gguf.name}: reading the weights")
        with shown(watch, "converting: placing weights", "converting: dequantising"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
            )
    hf, report = loaded
    whole.require_loaded(gguf.name, report)
    # Dequantised weights stay marked as quantised, which would make save_pretrained refuse them.
    hf.hf_quantizer = None
    hf.is_quantized = False
    del hf.config.quantization_config
    with shown(watch, "converting: writing"):
        hf.save_pretrained(target)
    for key in HOW_IT_WAS_LOADED:
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(target)
