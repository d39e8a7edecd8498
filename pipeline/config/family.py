"""What a family file states: where one architecture writes to the residual stream, and with what.

Plain values, checked when a configuration is composed; nothing here loads a model.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class Norm:
    """A norm between a write's matrices and the residual stream.

    The write is (offset + gain) * x / rms(x), of a centred x when `centred` (LayerNorm).
    """

    gain: str = MISSING
    offset: float = 0.0
    centred: bool = False


@dataclass
class Parameter:
    """A parameter that writes to the residual stream; d_model lies along `axis`."""

    name: str = MISSING
    axis: int = MISSING


@dataclass
class Write:
    """One contribution to the residual stream; names are relative to a block, or to the model for embeddings.

    `modules`: their outputs, summed, are what is added. `parameters`: every parameter that makes
    them up, in one variant of the architecture or another. `constant`: the parameter that holds
    what the write always adds, made when a linear layer lacks it; "" where there is no place.
    """

    modules: list[str] = MISSING
    parameters: list[Parameter] = MISSING
    norm: Norm | None = None
    constant: str = ""


@dataclass
class Family:
    """One architecture: its writes, and globs for every parameter that is none, so that none is overlooked."""

    name: str = MISSING
    model_types: list[str] = MISSING
    blocks: str = MISSING
    embedding: Write = MISSING
    attention: Write = MISSING
    mlp: Write = MISSING
    readers: list[str] = MISSING
    outside: list[str] = MISSING
    embedding_multiplier: str = ""
    residual_multiplier: str = ""
    remote_code: str = ""
    refusal_tokens: list[str] = MISSING
    tiny: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self):
        if not self.refusal_tokens:
            raise ValueError("model.family.refusal_tokens is []: name at least one token")
        for name, write in (("attention", self.attention), ("mlp", self.mlp)):
            if len(write.modules) != 1:
                raise ValueError(f"model.family.{name}.modules is {write.modules}: name one, whose output is added")

    @property
    def exact(self) -> bool:
        """Orthogonalised weights equal live ablation: no norm stands between a matrix and the stream."""
        return all(write.norm is None for write in (self.embedding, self.attention, self.mlp))
