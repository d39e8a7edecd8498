"""What interventions are measured by: answers, judges, losses, tasks, and the export."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline.config.checks import DTYPES, check
from pipeline.config.sampling import OWN, numbers
from pipeline.names import EFFECTS, REFUSAL_JUDGES, SAFETY_JUDGES, TEXT_JUDGES

KEPT = ("model", "proof")  # of an export


@dataclass
class GenerateConfig:
    max_new_tokens: int = MISSING
    batch_size: int = MISSING
    coefficient: float = MISSING
    lengths: list[int] = MISSING
    sampling: Any = None
    draw: int = 0

    def __post_init__(self):
        if self.sampling not in (None, OWN):
            self.sampling = numbers(self.sampling, "generate.sampling")
        check(self.draw >= 0, "generate.draw", self.draw, "use 0 or more")
        check(all(length >= 1 for length in self.lengths), "generate.lengths", self.lengths, "use at least 1")
        check(self.max_new_tokens >= 1, "generate.max_new_tokens", self.max_new_tokens, "use at least 1")
        check(self.batch_size >= 1, "generate.batch_size", self.batch_size, "use at least 1")
        check(self.coefficient > 0, "generate.coefficient", self.coefficient, "use a number above 0")


@dataclass
class EvaluateConfig:
    systems: dict[str, str] = field(default_factory=dict[str, str])
    under_systems: list[str] = field(default_factory=list[str])
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
    others: list[str] = field(default_factory=list[str])
    safety: list[str] = field(default_factory=list[str])
    window: int | None = None
    min_words: int = MISSING
    device: str = MISSING
    dtype: str = MISSING
    batch_size: int = MISSING
    folders: dict[str, str] = field(default_factory=dict[str, str])
    adapters: dict[str, str] = field(default_factory=dict[str, str])
    revisions: dict[str, str] = field(default_factory=dict[str, str])
    endpoints: dict[str, EndpointConfig] = field(default_factory=dict[str, EndpointConfig])

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
    places: list[str] = field(default_factory=list[str])
    options: dict[str, Any] = field(default_factory=dict[str, Any])

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
