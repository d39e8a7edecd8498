"""How the direction was found and chosen, beside its controls and beside other ways to find one."""

from dataclasses import dataclass

from pipeline.maths.comparisons import Comparison, Rank
from pipeline.maths.statistics import Estimate
from pipeline.results.values import Change


@dataclass(frozen=True)
class MetricScore:
    """The refusal metric on val prompts, nats: bypass (harmful, ablated) or induce (harmless, added)."""

    baseline: Estimate
    """Of the unchanged model."""
    direction: Estimate
    change: Change
    controls: dict[str, Estimate]
    """By source."""
    rank: Rank | None


@dataclass(frozen=True)
class KlScore:
    """KL(baseline || ablated) of next tokens on harmless val prompts, nats."""

    direction: Estimate
    controls: dict[str, Estimate]
    """By source."""
    rank: Rank | None


@dataclass(frozen=True)
class ValScores:
    """The three selection scores of the chosen direction, beside those of its controls."""

    bypass: MetricScore
    induce: MetricScore
    kl: KlScore


@dataclass(frozen=True)
class Candidate:
    """A candidate direction and its selection scores, nats; None where it is no number."""

    position: int
    """Token, counted from the end of the prompt."""
    layer: int
    bypass: float | None
    induce: float | None
    kl: float | None
    zero_norm: bool
    n_harmful: int | None
    n_harmless: int | None


@dataclass(frozen=True)
class Filter:
    """The refusal filter on the harmful train prompts."""

    verdict: str | None
    reason: str
    refused: int
    """Prompts."""
    n: int
    """Prompts."""


@dataclass(frozen=True)
class Selection:
    """How one candidate was chosen; where nothing could be scored, the defaults and the verdict's reason."""

    verdict: str
    rule: str
    chosen: Candidate | None
    reason: str
    filter: Filter
    thresholds: dict[str, int | float | None] | None = None
    """Nats, and the first layer that is too late."""
    baselines: dict[str, float] | None = None
    """Mean refusal metric of the unchanged model on val prompts of each class, nats."""
    n_val: dict[str, int] | None = None
    """Prompts of each class."""
    n_candidates: int | None = None
    n_kept: int | None = None
    removed: dict[str, int] | None = None
    """Candidates by the filter that removed them."""
    nearest_misses: list[Candidate] | None = None


@dataclass(frozen=True)
class Estimator:
    """Another way to find a direction: what the rule chose, and what its effects are beside the default's."""

    verdict: str
    rule: str
    thresholds: dict[str, int | float | None]
    chosen: Candidate | None
    n_candidates: int
    n_kept: int
    removed: dict[str, int]
    nearest_misses: list[Candidate]
    evaluated: Candidate | None
    """The chosen one, else the nearest miss."""
    conditions_of: str
    """The source whose conditions are this estimator's; empty where they are the chosen direction's."""
    against_mean_difference: dict[str, Comparison]
    """By effect."""


@dataclass(frozen=True)
class Caught:
    """Prompts that the refusal metric puts above its cutoff."""

    refused: int
    refused_above: int
    answered: int
    answered_above: int


@dataclass(frozen=True)
class TokenList:
    """A list of refusal tokens, and how well its metric tells refused prompts."""

    tokens: list[str]
    ids: list[int]
    auroc_val: Estimate
    cutoff: float
    """Nats."""
    caught_train: Caught
    caught_val: Caught


@dataclass(frozen=True)
class RefusalTokens:
    """The family's list and the one found from the model's own answers."""

    judge: str
    lists: dict[str, TokenList]
    difference: Estimate | None
    """AUROC on val, the found list minus the family's."""
    note: str
    used: str
