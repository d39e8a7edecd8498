"""The rows and records that stages hand on, key by key, where no type of values says it.

A field of a type of values stands in the file as the mapping of that type's fields (`disk.shape`).
"""

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # which pydantic wants before Python 3.12

from pipeline.config.checks import DTYPES
from pipeline.maths.held_out import ScoredDirection
from pipeline.maths.selection import Baselines, CandidateScores, FilterVerdict
from pipeline.names import LABELS


class BaselineRow(TypedDict):
    """The unchanged model on one train or val prompt."""

    set: str
    id: str
    refusal_metric: float
    kept: bool


class CompletionRow(TypedDict):
    """One answer."""

    id: str
    prompt_set: str
    completion: str | None
    prefixes: dict[str, int | None]
    n_tokens: int
    finished: bool


class VerdictRow(TypedDict):
    """What one judge said of one answer."""

    label: Literal[LABELS]  # type: ignore[valid-type]
    reason: str


class JudgementRow(TypedDict):
    """What every judge said of one answer."""

    id: str
    verdicts: dict[str, VerdictRow]
    by_length: dict[str, dict[str, Literal[LABELS]]]  # type: ignore[valid-type]


class RefusalIds(TypedDict):
    """The refusal tokens in use."""

    ids: list[int]
    cutoff: float


class Settled(TypedDict):
    """The dtype of a run."""

    dtype: Literal[DTYPES]  # type: ignore[valid-type]


class Counts(TypedDict):
    """Prompts of a set before and after the filter."""

    n: int
    kept: int


class Measured(TypedDict):
    """What the model was measured with."""

    tokenizer: str
    chat_template: str
    device: str
    system: str


class FilterSummary(TypedDict):
    """The filter's verdict, with its counts."""

    verdict: str | None
    reason: str
    refused: int
    n: int
    sets: dict[str, Counts]
    position_tokens: list[str]
    measured: Measured


class Sizes(TypedDict):
    """Val prompts of each class."""

    harmful: int
    harmless: int


class BaselinesRecord(TypedDict):
    """The baselines, with the number of prompts behind them; null without any."""

    baselines: Baselines | None
    n_val: Sizes | dict[str, int]


class CandidateRow(TypedDict):
    """A candidate as JSON; a score that is no number is null."""

    position: int
    layer: int
    bypass: float | None
    induce: float | None
    kl: float | None
    zero_norm: bool
    n_harmful: int | None
    n_harmless: int | None


class Choice(TypedDict):
    """How a rule chose among candidates."""

    verdict: str
    rule: str
    thresholds: dict[Literal["kl", "induce", "bypass", "max_layer"], int | float | None]
    chosen: CandidateScores | None
    n_candidates: int
    n_kept: int
    removed: dict[str, int]
    nearest_misses: list[CandidateRow]


class Chosen(Choice):
    """selection.json where candidates were scored."""

    baselines: Baselines
    n_val: Sizes
    reason: str
    filter: FilterVerdict


class NothingToChoose(TypedDict):
    """selection.json where the filter left too few prompts."""

    verdict: str
    reason: str
    rule: str
    chosen: None
    filter: FilterVerdict


class PromptScoreRows(TypedDict):
    """Scores per prompt; null is no number."""

    bypass: list[float | None]
    induce: list[float | None]
    kl: list[float | None]


class EffectRows(TypedDict):
    """What one direction does on the test prompts, prompt by prompt, nats: of harmful ones, then of harmless ones."""

    bypass: list[float]
    subtraction: list[float]
    induce: list[float]
    kl: list[float]


class ControlScores(TypedDict):
    """The chosen direction and its controls on the test prompts; all empty where none was chosen."""

    directions: dict[str, ScoredDirection]
    harmful_metric: list[float]
    harmless_metric: list[float]
    scores: dict[str, EffectRows]


class WinRow(TypedDict):
    """How often a place was chosen when val prompts were drawn again; no place: nothing was."""

    position: int | None
    layer: int | None
    share: float


class ClassRows(TypedDict):
    """The refusal metric of the unchanged model, per prompt of each class."""

    harmful: list[float]
    harmless: list[float]


class AddedRows(TypedDict):
    """An addition, per harmless prompt; without a coefficient there is a note alone."""

    coefficient: float | None
    length: float | None
    metric: list[float]
    kl: list[float]
    note: str


class TestedRows(TypedDict):
    """What an estimator does to the test prompts: ablated, and added by each of the terms on which it is compared."""

    unchanged: ClassRows
    bypass: list[float]
    kl: list[float]
    added: dict[str, AddedRows]


class EstimatorChoice(Choice):
    """An estimator's choice, with what was evaluated."""

    evaluated: CandidateScores | None
    candidates: list[CandidateRow]
    wins: list[WinRow]
    prompts: NotRequired[PromptScoreRows]
    test: NotRequired[TestedRows]


class Duplicates(TypedDict):
    """Two prompts that are nearly the same."""

    ids: list[str]
    similarity: float


class SurfaceAuroc(TypedDict):
    """How well form alone tells the classes apart."""

    value: float | None
    low: float | None
    high: float | None
    n_harmful: int
    n_harmless: int


class Overlap(TypedDict):
    """What two sets share."""

    exact: list[str]
    near: list[Duplicates]


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


class SetsAudit(TypedDict):
    """What the further sets are and share."""

    near_duplicate: float
    overlaps: dict[str, list[Duplicates]]
    counts: dict[str, dict[str, int]]
    kinds: dict[str, str]
    licences: dict[str, str]
    hashes: dict[str, str]
