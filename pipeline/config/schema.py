"""Every configuration value with its type and range; `conf/` gives each its value and meaning."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from pipeline.config.checks import check
from pipeline.config.choosing import (
    ActivationsConfig,
    ControlsConfig,
    EstimatorsConfig,
    InvarianceConfig,
    RefusalTokensConfig,
    SelectConfig,
    StabilityConfig,
)
from pipeline.config.data import DataConfig, SplitSizes, TextConfig
from pipeline.config.measuring import (
    CapabilityConfig,
    EvaluateConfig,
    ExportConfig,
    GenerateConfig,
    JudgeConfig,
    LossConfig,
)
from pipeline.config.opening import EngineConfig, FetchConfig, MemoryConfig, ModelConfig, ReaderConfig
from pipeline.config.suffix import SuffixConfig


@dataclass
class SizesConfig:
    harmful: SplitSizes = MISSING
    harmless: SplitSizes = MISSING


@dataclass
class Config:
    seed: int = MISSING
    model: ModelConfig = MISSING
    data: DataConfig = MISSING
    text: TextConfig = MISSING
    sizes: SizesConfig = MISSING
    fetch: FetchConfig = MISSING
    memory: MemoryConfig = MISSING
    engine: EngineConfig = MISSING
    select: SelectConfig = MISSING
    activations: ActivationsConfig = field(default_factory=ActivationsConfig)
    refusal_tokens: RefusalTokensConfig = MISSING
    controls: ControlsConfig = MISSING
    estimators: EstimatorsConfig = MISSING
    stability: StabilityConfig = MISSING
    invariance: InvarianceConfig = MISSING
    generate: GenerateConfig = MISSING
    evaluate: EvaluateConfig = MISSING
    judge: JudgeConfig = MISSING
    reader: ReaderConfig = MISSING
    loss: LossConfig = MISSING
    capability: CapabilityConfig = MISSING
    export: ExportConfig = MISSING
    suffix: SuffixConfig = MISSING

    def __post_init__(self):
        check(self.seed >= 0, "seed", self.seed, "use 0 or more")
