"""Low-rank adapters, added to the weights of the model they were trained on."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.disk.files import read_object
from pipeline.errors import UserError, first_line

PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
# What an adapter's configuration may ask for beyond W + s B A; none of it is done here.
REFUSED = ("use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern")


def low_rank_update(
    weight: Float[Tensor, "out into"], up: Float[Tensor, "out rank"], down: Float[Tensor, "rank into"], scale: float
) -> Float[Tensor, "out into"]:
    """W + s B A, summed in float32, in the dtype of W."""
    return (weight.float() + scale * (up.float() @ down.float())).to(weight.dtype)


@torch.no_grad()
def add_adapter(name: str, model: PreTrainedModel, folder: Path) -> None:
    """Add the adapter of a folder (adapter_config.json, adapter_model.safetensors) to the model's weights.

    Raises UserError for an adapter that is unreadable, does more than add s B A, or belongs to another model.
    """
    config, tensors = _read(name, folder)
    parameters = dict(model.named_parameters())
    for path in sorted({key.removesuffix(DOWN).removesuffix(UP) for key in tensors}):
        weight = parameters.get(f"{path.removeprefix(PREFIX)}.weight")
        down, up = tensors.get(path + DOWN), tensors.get(path + UP)
        other = UserError(f"judge '{name}': the adapter in {folder} does not fit the model at {path}: is it another's?")
        if weight is None or down is None or up is None or weight.is_meta:
            raise other
        if weight.shape != (up.shape[0], down.shape[1]):
            raise other
        rank = down.shape[0]
        scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        weight.copy_(low_rank_update(weight, up.to(weight.device), down.to(weight.device), scale))


def _read(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config = read_object(folder / "adapter_config.json")
        tensors = load_file(folder / "adapter_model.safetensors")
    except (UserError, OSError, ValueError, SafetensorError) as error:
        raise UserError(f"judge '{name}' has no readable adapter in {folder}: {first_line(error)}") from None
    extra = [key for key in REFUSED if config.get(key)] + [key for key in tensors if not key.endswith((DOWN, UP))]
    plain = config.get("peft_type") == "LORA" and config.get("bias", "none") == "none" and "lora_alpha" in config
    if extra or not plain or not tensors:
        more = ", ".join(extra) or "its peft_type, bias or lora_alpha" if tensors else "no tensors"
        raise UserError(f"judge '{name}': the adapter in {folder} is no plain low-rank update ({more})")
    return config, tensors
