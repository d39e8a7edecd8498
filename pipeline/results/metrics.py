"""Metrics: all that is measured of one run, typed; `metrics.json` is written and read here and nowhere else.

Every interval is a 95 % interval. A condition is a `Label`, never a text; in the file it has its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from pipeline.disk import files
from pipeline.disk.shape import AGAIN, made_again
from pipeline.errors import UserError
from pipeline.maths.comparisons import Comparison, Outcomes, Rank
from pipeline.maths.evaluation import Agreement
from pipeline.maths.labels import Label, Treatment
from pipeline.maths.statistics import Estimate

VERSION = 2


def _label(value: Any) -> Any:
    return Label.parse(value) if isinstance(value, str) else value


def _treatment(value: Any) -> Any:
    return Treatment.parse(value) if isinstance(value, str) else value


Condition = Annotated[Label, BeforeValidator(_label)]
Done = Annotated[Treatment, BeforeValidator(_treatment)]


@dataclass(frozen=True)
class Rate(Estimate):
    """A share of completions, 0 to 1."""

    rank: Rank | None = None
    """Of the direction's effect among its null controls; None for every other condition."""


@dataclass(frozen=True)
class Change(Estimate):
    """A paired change of a mean, in the unit of what changed."""

    detectable: float | None = None
    """Smallest change that so many rows show with 80 % power, in the same unit."""


@dataclass(frozen=True)
class LossChange(Change):
    """A paired change of cross-entropy, nats per token."""

    rank: Rank | None = None
    """Of the direction's rise among its null controls'."""


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
    """Each against its baseline on the same prompts; a change of that share."""
    unknown: dict[Condition, int]
    """Completions without a verdict."""
    reliability: dict[str, dict[str, Reliability]]
    """By reference, and by which completions; empty where it was not measured."""


@dataclass(frozen=True)
class Systems:
    """System prompts under which prompts were answered again, by name."""

    prompts: dict[str, str]
    not_measured: dict[str, str]
    """Why."""


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
    """A candidate direction and its selection scores, nats; None where a race stopped it."""

    position: int
    """Token, counted from the end of the prompt."""
    layer: int
    bypass: float | None
    induce: float | None
    kl: float | None
    zero_norm: bool
    stopped: str
    """Why it was measured no further; empty for one that was measured in full."""
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
    thresholds: dict[str, float | None] | None = None
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
    thresholds: dict[str, float | None]
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


@dataclass(frozen=True)
class SurfaceAuroc:
    """How well the form of a prompt alone tells the classes apart; 0.5 is not at all."""

    value: float | None
    low: float | None
    high: float | None
    n_harmful: int
    n_harmless: int


@dataclass(frozen=True)
class NearDuplicates:
    """Two prompts that are nearly the same."""

    ids: list[str]
    similarity: float
    """Cosine of character n-gram TF-IDF."""


@dataclass(frozen=True)
class Prompts:
    """What was measured on."""

    hashes: dict[str, str]
    """By set."""
    surface_auroc: dict[str, SurfaceAuroc | None]
    """By split."""
    shared_with_fitted: dict[str, list[NearDuplicates]]
    """Further sets, with the prompts that found the direction."""


@dataclass(frozen=True)
class Provenance:
    """What the numbers were made from: nothing that changes from run to run."""

    model: str
    tokenizer: str
    chat_template: str
    config: str
    data: str
    data_revision: str
    dtype: str
    device: str
    quantize: str
    seed: int
    packages: dict[str, str]


@dataclass(frozen=True)
class Metrics:
    """One run of one model."""

    model: str
    title: str
    verdict: str
    reason: str
    judge: str
    """Of refusal: whose verdicts the numbers below are."""
    max_new_tokens: int
    reference: dict[str, Any]
    """What the paper published of the same model; empty where nothing."""
    refusal_score: dict[Condition, Rate]
    """Share of completions that the judge calls refusals."""
    unknown: dict[Condition, int]
    """Completions without a verdict."""
    comparisons: dict[Condition, Comparison]
    """Each against its baseline on the same prompts; a change of the refusal score."""
    moved_controls: list[Condition]
    """Null controls outside of their baseline's interval."""
    other_judges: dict[str, dict[Condition, Rate]]
    """Refusal score by the other judges of refusal."""
    agreement: dict[str, dict[Condition, Agreement]]
    """By pair of judges: `first and second`."""
    safety: dict[str, Safety]
    """By judge of safety."""
    attacks: dict[Condition, dict[str, dict[str, Estimate]]]
    """Share of completions judged unsafe, by judge and category of prompt; `all` is all of them."""
    systems: Systems
    by_length: dict[Condition, dict[int, Estimate]]
    """Refusal score of the completions cut after so many tokens."""
    val_scores: ValScores | None
    """None without a direction."""
    estimators: dict[str, Estimator]
    refusal_tokens: RefusalTokens
    outcomes: dict[Condition, Outcomes]
    """Whether each prompt is refused, by its id; None is unknown."""
    selection: Selection
    loss: dict[str, Loss]
    """By set of texts."""
    capability: Capability
    export: Export
    prompts: Prompts
    provenance: Provenance
    version: int = VERSION


SPARSE = (Export, LossDifference, Selection)  # what they lack is left out of the file


def as_record(value: Any) -> Any:
    """A result as JSON has it."""
    if isinstance(value, Label | Treatment):
        return str(value)
    if isinstance(value, Agreement):
        only = {f"only_{judge}": count for judge, count in value.only.items()}
        return {"equal": as_record(value.equal), "kappa": as_record(value.kappa), **only}
    if isinstance(value, Metrics):
        return {**_fields(value), "val_scores": as_record(value.val_scores) or {}}
    if is_dataclass(value):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): as_record(item) for key, item in value.items()}
    return [as_record(item) for item in value] if isinstance(value, list | tuple) else value


def _fields(value: Any) -> dict[str, Any]:
    found = {field.name: as_record(getattr(value, field.name)) for field in fields(value)}
    if not isinstance(value, SPARSE):
        return found
    kept = {field.name for field in fields(value) if field.default is not None}
    return {name: item for name, item in found.items() if item is not None or name in kept}


def of_record(record: Any) -> Metrics:
    """The inverse of `as_record`. Raises ValueError for a record of other keys, types or of another version."""
    version = record.get("version") if isinstance(record, dict) else None
    if version != VERSION:
        raise ValueError(f"it is of version {version}, this project reads {VERSION}")
    found = _adapter().validate_python(_gathered(record))
    if as_record(found) != record:
        raise ValueError("it has keys that nothing reads")
    return found


def _gathered(record: Mapping[str, Any]) -> dict[str, Any]:
    """As the types have it: counts of one judge alone together, and no scores at all as None."""
    pairs = {
        pair: {
            name: {
                **{key: row[key] for key in ("equal", "kappa")},
                "only": {key.removeprefix("only_"): row[key] for key in row if key.startswith("only_")},
            }
            for name, row in rows.items()
        }
        for pair, rows in record["agreement"].items()
    }
    return {**record, "agreement": pairs, "val_scores": record["val_scores"] or None}


@cache
def _adapter() -> TypeAdapter:
    return TypeAdapter(Metrics)


def write_metrics(path: Path, metrics: Metrics) -> None:
    """As JSON, sorted by key."""
    files.write_json(path, as_record(metrics))


def read_metrics(path: Path) -> Metrics:
    """What `write_metrics` wrote. Raises UserError for anything else."""
    with made_again():
        record = files.read_object(path)
    try:
        return of_record(record)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        reason = f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    raise UserError(f"{path} is not what this version of the project writes ({reason}): {AGAIN}")
