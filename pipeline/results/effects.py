"""What the interventions do to answers, losses and tasks, and what the export keeps of it."""

from dataclasses import dataclass

from pipeline.maths.comparisons import Comparison
from pipeline.maths.evaluation import Rate
from pipeline.maths.statistics import Estimate
from pipeline.results.values import Condition, Done, LossChange


@dataclass(frozen=True)
class Reliability:
    """A judge against labels that it was not fitted on."""

    n: int
    """Completions."""
    kappa: Estimate
    auroc: Estimate


@dataclass(frozen=True)
class Safety:
    """What a judge of safety says."""

    score: dict[Condition, Rate]
    """Share of completions judged safe."""
    comparisons: dict[Condition, Comparison]
    """Each against its baseline on the same prompts; a change of that share. Controls without correction."""
    unknown: dict[Condition, int]
    """Completions without a verdict."""
    reliability: dict[str, dict[str, Reliability]]
    """By reference, and by which completions; empty where it was not measured."""


@dataclass(frozen=True)
class Systems:
    """System prompts: the main evaluation's, and those under which prompts were answered again, by name."""

    main: str
    """Empty where there is none."""
    of_template: bool
    """The chat template writes the main one by itself; else it is the configuration's `model.chat.system`."""
    prompts: dict[str, str]
    not_measured: dict[str, str]
    """Why."""


@dataclass(frozen=True)
class LossDifference:
    """Loss of single documents, nats per token, the largest; or why there is no export."""

    max_difference: float | None = None
    """Between the export and live ablation."""
    max_effect: float | None = None
    """Between live ablation and the unchanged model."""
    reason: str | None = None


@dataclass(frozen=True)
class Loss:
    """Cross-entropy of one set of texts, nats per token."""

    n_tokens: int
    n_documents: int
    loss: dict[Done, Estimate]
    change: dict[Done, LossChange]
    sources: dict[str, int]
    """Documents."""
    export: LossDifference


@dataclass(frozen=True)
class Reported:
    """What the harness itself says of a task."""

    value: float | None
    stderr: float | None


@dataclass(frozen=True)
class SameItems:
    """The export against live ablation, item by item."""

    n: int
    different_answers: int
    different_values: int
    difference_max: float | None
    """Log-likelihood, nats."""
    effect_max: float | None
    """Log-likelihood, nats."""


@dataclass(frozen=True)
class Task:
    """A capability task."""

    chance: float | None
    """Score of a guess."""
    score: dict[Done, Estimate]
    """Share of items answered rightly."""
    change: dict[Done, Comparison]
    """Of that share, on the same items."""
    export_equals_ablation: SameItems | None
    metric: str
    source: str
    licence: str
    harness: dict[str, Reported]


@dataclass(frozen=True)
class Capability:
    """Every task."""

    suite: str
    dtype: str
    limit: int | None
    """Items of each task; None: all."""
    harness: str
    export_missing: str
    """Why the export was not asked; empty where it was."""
    tasks: dict[str, Task]


@dataclass(frozen=True)
class Export:
    """The export against live ablation; without one only `reason`."""

    exported: bool
    reason: str | None = None
    dtype: str | None = None
    exact: bool | None = None
    n_prompts: int | None = None
    n_tokens: int | None = None
    logit_difference_max: float | None = None
    logit_difference_mean: float | None = None
    effect_max: float | None = None
    """What ablation moves a logit by."""
    greedy_equal: int | None = None
    """Prompts."""
    greedy_ties: int | None = None
    """Prompts."""
    greedy_different: int | None = None
    """Prompts."""
    max_cosine_before: list[float] | None = None
    """Of any `resid_pre` with the direction, by layer."""
    max_cosine_after: list[float] | None = None
    n_writers: int | None = None
    n_edited: int | None = None
    untied: bool | None = None
