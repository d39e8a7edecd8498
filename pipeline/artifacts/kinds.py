"""The rows and records that stages hand on, key by key: prompts, answers, verdicts, candidates, choices."""

from typing import Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # which pydantic wants before Python 3.12

from pipeline.config.checks import DTYPES
from pipeline.names import LABELS

exact = with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))


@exact
class PromptRow(TypedDict):
    """A row of a set of prompts."""

    id: str
    instruction: str
    category: str
    source: str
    licence: str


@exact
class TextRow(TypedDict):
    """A row of a set of texts."""

    id: str
    instruction: str
    text: str
    source: str
    licence: str


@exact
class BaselineRow(TypedDict):
    """The unchanged model on one train or val prompt."""

    set: str
    id: str
    refusal_metric: float
    kept: bool


@exact
class CompletionRow(TypedDict):
    """One answer."""

    id: str
    prompt_set: str
    completion: str | None
    prefixes: dict[str, int | None]
    n_tokens: int
    finished: bool


@exact
class VerdictRow(TypedDict):
    """What one judge said of one answer."""

    label: Literal[LABELS]  # type: ignore[valid-type]
    reason: str


@exact
class JudgementRow(TypedDict):
    """What every judge said of one answer."""

    id: str
    verdicts: dict[str, VerdictRow]
    by_length: dict[str, dict[str, Literal[LABELS]]]  # type: ignore[valid-type]


@exact
class RefusalIds(TypedDict):
    """The refusal tokens in use."""

    ids: list[int]
    cutoff: float


@exact
class Settled(TypedDict):
    """The dtype of a run."""

    dtype: Literal[DTYPES]  # type: ignore[valid-type]


@exact
class Filtered(TypedDict):
    """The verdict of the refusal filter."""

    verdict: str | None
    reason: str
    refused: int
    n: int


@exact
class Counts(TypedDict):
    """Prompts of a set before and after the filter."""

    n: int
    kept: int


@exact
class Measured(TypedDict):
    """What the model was measured with."""

    tokenizer: str
    chat_template: str
    device: str


@exact
class FilterSummary(Filtered):
    """The filter's verdict, with its counts."""

    sets: dict[str, Counts]
    position_tokens: list[str]
    measured: Measured


@exact
class BaselinesRow(TypedDict):
    """Mean refusal metric of the unchanged model."""

    harmful: float
    harmless: float


@exact
class Sizes(TypedDict):
    """Val prompts of each class."""

    harmful: int
    harmless: int


@exact
class BaselinesRecord(TypedDict):
    """The baselines, with the number of prompts behind them; null without any."""

    baselines: BaselinesRow | None
    n_val: Sizes | dict[str, int]


@exact
class CandidateRow(TypedDict):
    """A candidate as JSON; a score that is no number is null."""

    position: int
    layer: int
    bypass: float | None
    induce: float | None
    kl: float | None
    zero_norm: bool
    stopped: str
    n_harmful: int | None
    n_harmless: int | None


@exact
class ChosenRow(CandidateRow):
    """A candidate that was measured in full."""

    bypass: float
    induce: float
    kl: float


@exact
class Choice(TypedDict):
    """How a rule chose among candidates."""

    verdict: str
    rule: str
    thresholds: dict[Literal["kl", "induce", "bypass", "max_layer"], float | None]
    chosen: ChosenRow | None
    n_candidates: int
    n_kept: int
    removed: dict[str, int]
    nearest_misses: list[CandidateRow]


@exact
class Chosen(Choice):
    """selection.json where candidates were scored."""

    baselines: BaselinesRow
    n_val: Sizes
    reason: str
    filter: Filtered


@exact
class NothingToChoose(TypedDict):
    """selection.json where the filter left too few prompts."""

    verdict: str
    reason: str
    rule: str
    chosen: None
    filter: Filtered


@exact
class PromptScoreRows(TypedDict):
    """Scores per prompt; null is no number."""

    bypass: list[float | None]
    induce: list[float | None]
    kl: list[float | None]


@exact
class EstimatorChoice(Choice):
    """An estimator's choice, with what was evaluated."""

    evaluated: ChosenRow | None
    candidates: list[CandidateRow]
    prompts: NotRequired[PromptScoreRows]
