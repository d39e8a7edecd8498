"""The model of a run: where its bytes are from, how it is described, and what it runs on."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline.config.chat import ChatFormat
from pipeline.config.checks import AUTO, DTYPES, check
from pipeline.config.family import Family
from pipeline.config.sampling import SamplingConfig

SOURCE_KINDS = ("gguf", "hub", "folder", "random")
QUANTIZED = ("8bit", "4bit")


@dataclass
class SourceConfig:
    kind: str = MISSING
    file: str = ""
    sha256: str = ""
    places: list[str] = field(default_factory=list[str])
    repo: str = ""
    revision: str = ""
    path: str = ""
    model_type: str = ""
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self):
        check(self.seed >= 0, "model.source.seed", self.seed, "use 0 or more")
        check(self.kind in SOURCE_KINDS, "model.source.kind", self.kind, f"use one of {', '.join(SOURCE_KINDS)}")
        needs = {
            "gguf": ("file", "sha256", "places"),
            "hub": ("repo", "revision"),
            "folder": ("path",),
            "random": ("model_type",),
        }[self.kind]
        for key in needs:
            check(
                bool(getattr(self, key)),
                f"model.source.{key}",
                getattr(self, key),
                f"kind {self.kind} needs it",
            )


@dataclass
class ModelConfig:
    name: str = MISSING
    title: str = MISSING
    base_model: str = MISSING
    licence: str = MISSING
    family: Family = MISSING
    chat: ChatFormat = field(default_factory=ChatFormat)
    reference: dict[str, Any] = field(default_factory=dict[str, Any])
    sampling: SamplingConfig | None = None
    source: SourceConfig = MISSING


@dataclass
class FetchConfig:
    cache: str | None = None
    mirror: str | None = None


@dataclass
class MemoryConfig:
    limits: dict[str, float] = field(default_factory=dict[str, float])
    offload_folder: str | None = None

    def __post_init__(self):
        for name, gib in self.limits.items():
            known = name in ("cpu", "disk") or (name.startswith("gpu") and name[3:].isdigit())
            check(known and gib >= 0, f"memory.limits.{name}", gib, "name gpu0, gpu1, cpu or disk, and GiB from 0")


@dataclass
class EngineConfig:
    dtype: str = MISSING
    device: str = MISSING
    max_batch_tokens: int = MISSING
    quantize: str = ""

    def __post_init__(self):
        check(self.dtype in (AUTO, *DTYPES), "engine.dtype", self.dtype, f"use {AUTO} or one of {', '.join(DTYPES)}")
        choices = ", ".join(QUANTIZED)
        check(self.quantize in ("", *QUANTIZED), "engine.quantize", self.quantize, f'use "" or one of {choices}')
        check(self.max_batch_tokens >= 1, "engine.max_batch_tokens", self.max_batch_tokens, "use at least 1")


@dataclass
class ReaderConfig:
    """The model whose residual stream the embedded judge of safety reads, whichever model wrote the texts."""

    model: ModelConfig = MISSING
    engine: EngineConfig = MISSING
