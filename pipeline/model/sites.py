"""Where a family writes to the residual stream."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from pipeline.errors import UserError


@dataclass(frozen=True)
class Family:
    """Dotted module paths of one model family; the last four are relative to a block."""

    name: str
    blocks: str
    embedding: str
    attention: str
    mlp: str
    attention_out: str
    mlp_out: str


@dataclass(frozen=True)
class Sites:
    """The modules of one loaded model that write to the residual stream, block by block."""

    family: Family
    blocks: nn.ModuleList
    embedding: nn.Embedding
    attention: tuple[nn.Module, ...]
    mlp: tuple[nn.Module, ...]
    head: nn.Linear

    @property
    def writers(self) -> tuple[nn.Module, ...]:
        """Modules whose output is added to the residual stream, the embedding first."""
        return (self.embedding, *self.attention, *self.mlp)

    def output_layers(self) -> list[tuple[str, nn.Linear]]:
        """(name, linear layer) of every matrix that writes to the residual stream after the embedding."""
        paths = (self.family.attention_out, self.family.mlp_out)
        return [
            (f"{self.family.blocks}.{index}.{path}", _linear(self.family, block, path))
            for index, block in enumerate(self.blocks)
            for path in paths
        ]


def find_sites(model: PreTrainedModel, family: Family) -> Sites:
    """Resolve the family's paths on the model. Raises UserError naming the path that is not there."""
    blocks: Any = _get(family, model, family.blocks)
    return Sites(
        family=family,
        blocks=blocks,
        embedding=_get(family, model, family.embedding),
        attention=tuple(_get(family, block, family.attention) for block in blocks),
        mlp=tuple(_get(family, block, family.mlp) for block in blocks),
        head=_head(model),
    )


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


def _linear(family: Family, block: nn.Module, path: str) -> nn.Linear:
    layer = _get(family, block, path)
    if not isinstance(layer, nn.Linear):
        raise UserError(
            f"'{path}' of family '{family.name}' is a {type(layer).__name__}, not a linear layer: not supported"
        )
    return layer
