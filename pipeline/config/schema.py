"""Every configuration value with its type and range; `conf/` gives each its value and meaning."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline.config.chat import ChatFormat
from pipeline.config.checks import AUTO, DTYPES, check
from pipeline.config.data import DataConfig, SplitSizes, TextConfig
from pipeline.config.family import Family
from pipeline.config.suffix import SuffixConfig
from pipeline.names import EFFECTS, ESTIMATOR_NAMES, MEAN_DIFFERENCE, REFUSAL_JUDGES, RULES, SAFETY_JUDGES, TEXT_JUDGES

SOURCE_KINDS = ("gguf", "hub", "folder", "random")
QUANTIZED = ("8bit", "4bit")
TOKEN_SOURCES = ("family", "auto")
KEPT = ("model", "proof")  # of an export


@dataclass
class SourceConfig:
    kind: str = MISSING
    file: str = ""
    sha256: str = ""
    places: list[str] = field(default_factory=list)
    repo: str = ""
    revision: str = ""
    path: str = ""
    model_type: str = ""
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

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
    reference: dict[str, Any] = field(default_factory=dict)
    source: SourceConfig = MISSING


@dataclass
class FetchConfig:
    cache: str | None = None
    mirror: str | None = None


@dataclass
class MemoryConfig:
    limits: dict[str, float] = field(default_factory=dict)
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


@dataclass
class SelectConfig:
    rule: str = MISSING
    kl_threshold: float = MISSING
    induce_threshold: float = MISSING
    layer_share: float = MISSING
    gap_share: float = MISSING
    max_train: int = MISSING
    max_val: int = MISSING
    min_train: int = MISSING
    min_val: int = MISSING
    max_refusal_rate: float = MISSING
    race: bool = MISSING
    race_level: float = MISSING

    def limits(self) -> dict[str, float]:
        """What `thresholds_for` asks for beside the rule."""
        return {
            "kl": self.kl_threshold,
            "induce": self.induce_threshold,
            "layer_share": self.layer_share,
            "gap_share": self.gap_share,
        }

    def __post_init__(self):
        check(self.rule in RULES, "select.rule", self.rule, f"use one of {', '.join(RULES)}")
        check(self.kl_threshold > 0, "select.kl_threshold", self.kl_threshold, "use a number above 0")
        for key in ("layer_share", "gap_share", "max_refusal_rate", "race_level"):
            check(
                0 < getattr(self, key) <= 1,
                f"select.{key}",
                getattr(self, key),
                "use a share above 0, at most 1",
            )
        for key in ("max_train", "max_val", "min_train", "min_val"):
            check(getattr(self, key) >= 1, f"select.{key}", getattr(self, key), "use at least 1")


@dataclass
class ActivationsConfig:
    per_prompt: bool = False


@dataclass
class RefusalTokensConfig:
    source: str = MISSING
    judge: str = MISSING
    n_harmful: int = MISSING
    n_harmless: int = MISSING
    max_new_tokens: int = MISSING

    def __post_init__(self):
        choices = ", ".join(TOKEN_SOURCES)
        check(self.source in TOKEN_SOURCES, "refusal_tokens.source", self.source, f"use one of {choices}")
        check(self.judge in TEXT_JUDGES, "refusal_tokens.judge", self.judge, f"use one of {', '.join(TEXT_JUDGES)}")
        n = [self.n_harmful, self.n_harmless]
        check(min(n) >= 1 or max(n) == 0, "refusal_tokens.n_harmful, n_harmless", n, "use at least 1, or 0 for both")
        check(
            min(n) >= 1 or self.source != "auto",
            "refusal_tokens.source",
            self.source,
            "auto is found from answers: set n_harmful and n_harmless to 1 or more",
        )
        check(self.max_new_tokens >= 1, "refusal_tokens.max_new_tokens", self.max_new_tokens, "use at least 1")


@dataclass
class ControlsConfig:
    random: int = MISSING
    shuffled: int = MISSING
    layer_share: float | None = MISSING

    def __post_init__(self):
        for key in ("random", "shuffled"):
            check(
                getattr(self, key) >= 1,
                f"controls.{key}",
                getattr(self, key),
                "every effect needs a control: 1 or more",
            )
        share = self.layer_share
        check(share is None or 0 < share < 1, "controls.layer_share", share, "use null or a share between 0 and 1")


@dataclass
class EstimatorsConfig:
    names: list[str] = MISSING
    positions: list[int] = MISSING
    layer_step: int = MISSING

    def __post_init__(self):
        unknown = [name for name in self.names if name not in ESTIMATOR_NAMES]
        check(not unknown, "estimators.names", unknown, f"use {', '.join(ESTIMATOR_NAMES)}")
        check(
            not self.names or MEAN_DIFFERENCE in self.names,
            "estimators.names",
            self.names,
            f"keep {MEAN_DIFFERENCE}, what the others are held against, or use [] for none",
        )
        check(
            len(self.positions) > 0 and all(position < 0 for position in self.positions),
            "estimators.positions",
            self.positions,
            "count from the end: -1 is the last token",
        )
        check(self.layer_step >= 1, "estimators.layer_step", self.layer_step, "use at least 1")


@dataclass
class StabilityConfig:
    n_resamples: int = MISSING
    n_splits: int = MISSING
    sizes: list[int] = MISSING
    n_draws: int = MISSING

    def __post_init__(self):
        check(self.n_resamples >= 100, "stability.n_resamples", self.n_resamples, "use at least 100")
        for key in ("n_splits", "n_draws"):
            check(getattr(self, key) >= 1, f"stability.{key}", getattr(self, key), "use at least 1")
        check(all(size >= 1 for size in self.sizes), "stability.sizes", self.sizes, "use numbers of prompts from 1")


@dataclass
class InvarianceConfig:
    judge: str = MISSING
    n_prompts: int = MISSING
    n_tokens: int = MISSING
    batch_sizes: list[int] = MISSING
    padding: int = MISSING

    def __post_init__(self):
        check(self.judge in TEXT_JUDGES, "invariance.judge", self.judge, f"use one of {', '.join(TEXT_JUDGES)}")
        check(self.n_prompts >= 0, "invariance.n_prompts", self.n_prompts, "use 0 (not measured) or more")
        for key in ("n_tokens", "padding"):
            check(getattr(self, key) >= 1, f"invariance.{key}", getattr(self, key), "use at least 1")
        check(all(size >= 1 for size in self.batch_sizes), "invariance.batch_sizes", self.batch_sizes, "use at least 1")


@dataclass
class GenerateConfig:
    max_new_tokens: int = MISSING
    batch_size: int = MISSING
    coefficient: float = MISSING
    lengths: list[int] = MISSING

    def __post_init__(self):
        check(all(length >= 1 for length in self.lengths), "generate.lengths", self.lengths, "use at least 1")
        check(self.max_new_tokens >= 1, "generate.max_new_tokens", self.max_new_tokens, "use at least 1")
        check(self.batch_size >= 1, "generate.batch_size", self.batch_size, "use at least 1")
        check(self.coefficient > 0, "generate.coefficient", self.coefficient, "use a number above 0")


@dataclass
class EvaluateConfig:
    systems: dict[str, str] = field(default_factory=dict)
    under_systems: list[str] = field(default_factory=list)
    effects: list[str] = MISSING
    n_prompts: int = MISSING

    def __post_init__(self):
        needed, known = {"ablation", "addition"}, set(EFFECTS)
        check(
            needed <= set(self.effects) <= known,
            "evaluate.effects",
            self.effects,
            f"keep {' and '.join(sorted(needed))}, and use {', '.join(EFFECTS)}",
        )
        check(self.n_prompts >= 0, "evaluate.n_prompts", self.n_prompts, "use 0 (nothing beyond the main sets) or more")
        named = all(name.isidentifier() and "_" not in name for name in self.systems)
        check(named, "evaluate.systems", list(self.systems), "name them with letters and digits alone")


@dataclass
class EndpointConfig:
    base_url: str = MISSING
    model: str = MISSING
    key_variable: str = ""
    timeout_s: float = 60.0
    max_retries: int = 5
    requests_per_minute: float = 0.0
    concurrency: int = 8


@dataclass
class JudgeConfig:
    refusal: str = MISSING
    others: list[str] = field(default_factory=list)
    safety: list[str] = field(default_factory=list)
    window: int | None = None
    min_words: int = MISSING
    device: str = MISSING
    dtype: str = MISSING
    batch_size: int = MISSING
    folders: dict[str, str] = field(default_factory=dict)
    adapters: dict[str, str] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    endpoints: dict[str, EndpointConfig] = field(default_factory=dict)

    @property
    def refusal_judges(self) -> list[str]:
        """The deciding one first."""
        return list(dict.fromkeys([self.refusal, *self.others]))

    def __post_init__(self):
        choices = ", ".join(REFUSAL_JUDGES)
        unknown = [name for name in self.others if name not in REFUSAL_JUDGES]
        check(not unknown, "judge.others", unknown, f"use {choices}")
        check(self.refusal in REFUSAL_JUDGES, "judge.refusal", self.refusal, f"use one of {choices}")
        unknown = [name for name in self.safety if name not in SAFETY_JUDGES]
        check(not unknown, "judge.safety", unknown, f"use {', '.join(SAFETY_JUDGES)}")
        for key in ("folders", "adapters", "revisions", "endpoints"):
            unknown = [
                name
                for name in getattr(self, key)
                if name in TEXT_JUDGES or name not in (*REFUSAL_JUDGES, *SAFETY_JUDGES)
            ]
            check(not unknown, f"judge.{key}", unknown, "name judges that are models")
        check(self.window is None or self.window >= 1, "judge.window", self.window, "use null or at least 1")
        check(self.min_words >= 0, "judge.min_words", self.min_words, "use 0 or more")
        check(self.batch_size >= 1, "judge.batch_size", self.batch_size, "use at least 1")
        check(self.dtype in DTYPES, "judge.dtype", self.dtype, f"use one of {', '.join(DTYPES)}")


@dataclass
class LossConfig:
    n_completions: int = MISSING
    max_tokens: int = MISSING
    max_answer_tokens: int = MISSING

    def __post_init__(self):
        check(self.n_completions >= 0, "loss.n_completions", self.n_completions, "use 0 (no loss is measured) or more")
        check(self.max_answer_tokens >= 1, "loss.max_answer_tokens", self.max_answer_tokens, "use at least 1")
        check(self.max_tokens >= 2, "loss.max_tokens", self.max_tokens, "use at least 2")


@dataclass
class CapabilityTask:
    base: str = MISSING
    metric: str = MISSING
    source: str = MISSING
    licence: str = "not stated"
    file: str = ""
    sha256: str = ""
    places: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        pinned = bool(self.sha256) == bool(self.places)
        check(pinned, "capability: sha256 of a task", self.sha256, "give both sha256 and places, or neither")
        check(bool(self.base), "capability: base of a task", self.base, "name a task of lm-eval")
        check(bool(self.metric), "capability: metric of a task", self.metric, "name one, such as acc")


@dataclass
class CapabilityConfig:
    name: str = MISSING
    dtype: str = MISSING
    batch_size: int = MISSING
    limit: int | None = MISSING
    folder: str | None = MISSING
    tasks: dict[str, CapabilityTask] = MISSING

    def __post_init__(self):
        check(self.dtype in DTYPES, "capability.dtype", self.dtype, f"use one of {', '.join(DTYPES)}")
        check(self.batch_size >= 1, "capability.batch_size", self.batch_size, "use at least 1")
        check(self.limit is None or self.limit >= 1, "capability.limit", self.limit, "use null or at least 1")


@dataclass
class ExportConfig:
    keep: str = MISSING
    dtype: str = MISSING
    n_prompts: int = MISSING
    n_tokens: int = MISSING

    def __post_init__(self):
        check(self.keep in KEPT, "export.keep", self.keep, f"use one of {', '.join(KEPT)}")
        check(self.dtype in DTYPES, "export.dtype", self.dtype, f"use one of {', '.join(DTYPES)}")
        check(self.n_prompts >= 1, "export.n_prompts", self.n_prompts, "use at least 1")
        check(self.n_tokens >= 1, "export.n_tokens", self.n_tokens, "use at least 1")


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
