"""What ships with a model and would change what it says: generation settings that apply nowhere here."""

from typing import Any

from transformers import GenerationConfig, PreTrainedModel

SILENT = ("_", "output_", "return_", "transformers_version", "use_cache")  # settings that change no token


def shipped(hf: PreTrainedModel) -> dict[str, Any]:
    """Settings that ship with a model and are not the library's defaults; ids of special tokens are none."""
    declared = getattr(hf, "generation_config", None)
    plain = GenerationConfig().to_dict()
    values = {} if declared is None else declared.to_dict()
    return {
        name: value
        for name, value in sorted(values.items())
        if not name.endswith("token_id") and not name.startswith(SILENT)
        if value != plain.get(name) and value is not None
    }


def set_aside(hf: PreTrainedModel) -> dict[str, Any]:
    """Leave of the shipped generation settings only which tokens end an answer; what they were.

    The library fills every setting that a call leaves out from the model's own, so that a repetition penalty or a list
    of suppressed tokens would hold in whatever the library generates.
    """
    found = shipped(hf)
    declared = getattr(hf, "generation_config", None)
    ids = {name: getattr(declared, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    hf.generation_config = GenerationConfig(**{name: value for name, value in ids.items() if value is not None})
    return found
