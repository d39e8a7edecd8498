"""Low-rank adapters, merged by peft into the weights of the model they were trained on."""

import warnings
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.disk.files import read_object
from pipeline.errors import UserError, first_line
from pipeline.model.loading.foreign import library_errors

if TYPE_CHECKING:
    from peft import LoraConfig

# What of an adapter's configuration says which tensors it has and how they are merged, and what says nothing of that.
# Any other option is refused: it would change the forward pass, the layers, or the weights that are added to.
MERGED = {
    *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "bias", "lora_bias"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"),
    "fan_in_fan_out",
}
INERT = {
    *("peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision"),
    *("inference_mode", "lora_dropout"),
}
FRESH = (True, False, "gaussian")  # ways of beginning to train that leave the model's own weights alone


@torch.no_grad()
def add_adapter(name: str, model: PreTrainedModel, folder: Path) -> None:
    """Merge the adapter of a folder (adapter_config.json, adapter_model.safetensors) into the model's weights.

    Sums are made in float32 and rounded once. Raises UserError where peft is not installed, for a model that is
    partly on the disk, and for an adapter that is unreadable, does what merging cannot, or belongs to another model.
    """
    if find_spec("peft") is None:
        raise UserError(f"judge '{name}' is an adapter, which needs peft: pip install 'refusal-direction[adapter]'")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise UserError(
            f"judge '{name}' is an adapter, and its model does not fit into memory: free memory, raise memory.limits, "
            "or use a smaller judge.dtype"
        )
    values, tensors = _read(name, folder)
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from peft.tuners.tuners_utils import BaseTunerLayer

    parameters = dict(model.named_parameters(remove_duplicate=False))
    dtypes = {path: parameter.dtype for path, parameter in parameters.items()}
    places = Counter(map(id, parameters.values()))
    wrong = f"judge '{name}': the adapter in {folder} does not fit the model"
    with library_errors(wrong), warnings.catch_warnings(action="ignore"):
        config = _config(name, folder, values, LoraConfig)
        adapted = get_peft_model(model, config)  # its own tensors are in float32, whatever the model's are
        _require_same(name, folder, get_peft_model_state_dict(adapted, save_embedding_layers=False), tensors)
        set_peft_model_state_dict(adapted, tensors)
        for layer in [module for module in adapted.modules() if isinstance(module, BaseTunerLayer)]:
            if any(places[id(parameter)] > 1 for parameter in layer.get_base_layer().parameters()):
                raise UserError(f"judge '{name}': the adapter in {folder} changes weights that stand in two places")
            layer.get_base_layer().float()
            layer.merge(safe_merge=True)
        adapted.unload()  # type: ignore[operator]
    for path, parameter in model.named_parameters(remove_duplicate=False):
        parameter.data = parameter.data.to(dtypes[path])


def _read(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config = read_object(folder / "adapter_config.json")
        tensors = load_file(folder / "adapter_model.safetensors")
    except (UserError, OSError, ValueError, SafetensorError) as error:
        raise UserError(f"judge '{name}' has no readable adapter in {folder}: {first_line(error)}") from None
    return config, tensors


def _config(name: str, folder: Path, values: Mapping[str, Any], kind: "type[LoraConfig]") -> "LoraConfig":
    plain = vars(kind())
    asked = {key: value for key, value in values.items() if value not in (None, False, [], {})}
    odd = [key for key, value in asked.items() if key not in MERGED | INERT and value != plain.get(key)]
    odd = [key for key in odd if key != "init_lora_weights" or asked[key] not in FRESH]
    if values.get("peft_type") != "LORA" or "lora_alpha" not in asked or odd:
        what = ", ".join(sorted(odd)) or "its peft_type or lora_alpha"
        raise UserError(f"judge '{name}': the adapter in {folder} is no low-rank update that can be merged ({what})")
    return kind(**{key: value for key, value in asked.items() if key in MERGED})


def _require_same(name: str, folder: Path, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Each tensor that the configuration asks for is there, of its shape, and no other."""
    wanted, found = ({key: tuple(tensor.shape) for key, tensor in part.items()} for part in (expected, tensors))
    if wrong := sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)):
        raise UserError(
            f"judge '{name}': the adapter in {folder} does not fit the model at {wrong[0]}: is it another's?"
        )
