"""The records that metrics are collected from, key by key: audits, losses, task scores, the export's proof."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from pipeline.artifacts.kinds import exact


@exact
class Interval(TypedDict):
    """A point with its interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    note: str


@exact
class Detected(Interval):
    """A change of the loss: its interval, the smallest change that would show, its rank among controls."""

    detectable: float | None
    rank: dict[str, float | int | None] | None


@exact
class Difference(TypedDict):
    """What rounding leaves of the export's loss, and the effect itself; or why there is no export."""

    max_difference: NotRequired[float]
    max_effect: NotRequired[float]
    reason: NotRequired[str]


@exact
class LossRow(TypedDict):
    """Cross-entropy of one set of texts."""

    n_tokens: int
    n_documents: int
    loss: dict[str, Interval]
    change: dict[str, Detected]
    sources: dict[str, int]
    export: Difference


@exact
class Comparison(TypedDict):
    """A paired change of outcomes."""

    gained: int | None
    lost: int | None
    p: float | None
    p_holm: float | None
    change: Interval
    detectable: float | None
    note: str
    verdict: str


@exact
class Reported(TypedDict):
    """What the harness itself says of a task."""

    value: float | None
    stderr: float | None


@exact
class SameItems(TypedDict):
    """The export against live ablation, item by item."""

    n: int
    different_answers: int
    different_values: int
    difference_max: float | None
    effect_max: float | None


@exact
class TaskRow(TypedDict):
    """Scores of one task."""

    chance: float | None
    score: dict[str, Interval]
    change: dict[str, Comparison]
    export_equals_ablation: SameItems | None
    metric: str
    source: str
    licence: str
    harness: dict[str, Reported]


@exact
class Capability(TypedDict):
    """Scores of every task."""

    suite: str
    dtype: str
    limit: int | None
    harness: str
    export_missing: str
    tasks: dict[str, TaskRow]


@exact
class NotExported(TypedDict):
    """Why there is no export."""

    exported: Literal[False]
    reason: str


@exact
class Exported(TypedDict):
    """The export against live ablation."""

    exported: Literal[True]
    dtype: str
    exact: bool
    n_prompts: int
    n_tokens: int
    logit_difference_max: float
    logit_difference_mean: float
    effect_max: float
    greedy_equal: int
    greedy_ties: int
    greedy_different: int
    max_cosine_before: list[float]
    max_cosine_after: list[float]
    n_writers: int
    n_edited: int
    untied: bool


@exact
class Caught(TypedDict):
    """Answers that a list of refusal tokens finds above its cutoff."""

    refused: int
    refused_above: int
    answered: int
    answered_above: int


@exact
class TokenList(TypedDict):
    """One list of refusal tokens."""

    tokens: list[str]
    ids: list[int]
    auroc_val: Interval
    cutoff: float
    caught_train: Caught
    caught_val: Caught


@exact
class TokenLists(TypedDict):
    """Both lists of refusal tokens, and the one in use."""

    judge: str
    lists: dict[str, TokenList]
    difference: Interval | None
    note: str
    used: str


@exact
class Pair(TypedDict):
    """Two prompts that are near-duplicates."""

    ids: list[str]
    similarity: float


@exact
class Overlap(TypedDict):
    """What two sets share."""

    exact: list[str]
    near: list[Pair]


@exact
class SurfaceAuroc(TypedDict):
    """How well form alone tells the classes apart."""

    value: float | None
    low: float | None
    high: float | None
    n_harmful: int
    n_harmless: int


@exact
class Audit(TypedDict):
    """What the six sets are and share."""

    preset: str
    near_duplicate: float
    overlaps: dict[str, Overlap]
    not_drawn_as_repeats: dict[str, int]
    pools: dict[str, int]
    counts: dict[str, dict[str, int]]
    licences: dict[str, str]
    hashes: dict[str, str]
    surface_auroc: dict[str, SurfaceAuroc | None]


@exact
class SetsAudit(TypedDict):
    """What the further sets are and share."""

    near_duplicate: float
    overlaps: dict[str, list[Pair]]
    counts: dict[str, dict[str, int]]
    kinds: dict[str, str]
    licences: dict[str, str]
    hashes: dict[str, str]
