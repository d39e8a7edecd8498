"""The modules of one loaded model that write to the residual stream."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.config.family import Family
from pipeline.errors import UserError


@dataclass(frozen=True)
class Sites:
    """Blocks, and the modules whose outputs are added to the residual stream, block by block."""

    family: Family
    blocks: nn.ModuleList
    embeddings: tuple[nn.Module, ...]
    attention: tuple[nn.Module, ...]
    mlp: tuple[nn.Module, ...]
    head: nn.Linear
    embedding_multiplier: float
    residual_multiplier: float

    @property
    def writers(self) -> tuple[nn.Module, ...]:
        """Modules whose output is added to the residual stream, the embeddings first."""
        return (*self.embeddings, *self.attention, *self.mlp)


def find_sites(model: PreTrainedModel, family: Family) -> Sites:
    """Resolve the family's paths on the model. Raises UserError naming the path that is not there."""
    blocks: Any = _get(family, model, family.blocks)
    [attention], [mlp] = family.attention.modules, family.mlp.modules
    return Sites(
        family=family,
        blocks=blocks,
        embeddings=tuple(_get(family, model, path) for path in family.embedding.modules),
        attention=tuple(_get(family, block, attention) for block in blocks),
        mlp=tuple(_get(family, block, mlp) for block in blocks),
        head=_head(model),
        embedding_multiplier=_multiplier(model, family.embedding_multiplier),
        residual_multiplier=_multiplier(model, family.residual_multiplier),
    )


def output(value: Any) -> torch.Tensor:
    """What a module adds to the residual stream: its output, or the first part of it."""
    return value[0] if isinstance(value, tuple) else value


def input_device(model: PreTrainedModel) -> torch.device:
    """Where inputs go: the device of the first weights that are not on disk."""
    return next((weight.device for weight in model.parameters() if not weight.is_meta), torch.device("cpu"))


def _multiplier(model: PreTrainedModel, key: str) -> float:
    return float(getattr(model.config, key)) if key else 1.0


def _head(model: PreTrainedModel) -> nn.Linear:
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise UserError(f"{type(model).__name__} has no linear unembedding (lm_head): it is no causal language model")
    return head


def _get(family: Family, module: nn.Module, path: str) -> Any:
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        raise UserError(
            f"{type(module).__name__} has no module '{path}', so it is not of family '{family.name}': "
            f"set the model's family in conf/model/ ({error})"
        ) from None
