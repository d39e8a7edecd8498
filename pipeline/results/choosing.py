"""How the direction was found and chosen, beside its controls and beside other ways to find one."""

from dataclasses import dataclass

from pipeline.maths.comparisons import Comparison, Rank
from pipeline.maths.paired import PairedChange
from pipeline.maths.statistics import Estimate
from pipeline.results.values import Change


@dataclass(frozen=True)
class Moved:
    """The refusal metric under one direction, nats."""

    score: Estimate
    change: Change
    """From the unchanged model's, on the same prompts."""


@dataclass(frozen=True)
class MetricScore:
    """The refusal metric on test prompts, nats."""

    baseline: Estimate
    """Of the unchanged model."""
    direction: Moved
    controls: dict[str, Moved]
    """By source."""
    ranks: dict[str, Rank]
    """Of the direction's change among the controls of one kind, by kind: those with enough of them for p = 0.05."""


@dataclass(frozen=True)
class KlScore:
    """KL(baseline || ablated) of next tokens on harmless test prompts, nats: a cost, and no claim that is ranked."""

    direction: Estimate
    controls: dict[str, Estimate]
    """By source."""


@dataclass(frozen=True)
class HeldOutScores:
    """What the chosen direction and its controls do on all test prompts, which had no part in choosing it."""

    bypass: MetricScore
    """Of harmful prompts under ablation."""
    subtraction: MetricScore
    """Of harmful prompts under subtraction."""
    induce: MetricScore
    """Of harmless prompts under addition."""
    kl: KlScore


@dataclass(frozen=True)
class Candidate:
    """A candidate direction and its scores on val prompts, nats; None where it is no number."""

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
class Win:
    """Share of the resamples of val that choose a place; None: those that choose nothing."""

    position: int | None
    layer: int | None
    share: float


@dataclass(frozen=True)
class Effect:
    """What an estimator's finding does to test prompts that have chosen nothing, nats."""

    metric: Estimate
    """Refusal metric: of harmful prompts under ablation, of harmless ones under addition."""
    change: Estimate
    """Of that metric from the unchanged model, on the same prompts."""
    kl: Estimate
    """KL(unchanged || changed) of next tokens, harmless prompts."""
    against_mean_difference: PairedChange | None
    """That metric minus the difference in means', ablated or added as it is found; None of the latter itself."""


@dataclass(frozen=True)
class Addition(Effect):
    """An addition; where none meets the terms its numbers are missing, and their notes say why."""

    coefficient: float | None
    """Times what was found; of an affine edit, times its move."""
    length: float | None
    """Mean length of what is added, units of `resid_pre`: of an affine edit, over harmless train prompts."""


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
    """Answers, by effect."""
    wins: list[Win]
    """How often each place is chosen when val prompts are drawn again, the most often chosen first."""
    ablation: Effect | None
    """None where nothing was evaluated."""
    additions: dict[str, Addition]
    """`own_length`: as it is found; `equal_norm`: as long as the difference in means at the same place;
    `equal_kl`: with the KL of the difference in means added as that is found."""


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
