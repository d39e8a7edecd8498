"""Metrics: all that is measured of one run, typed."""

from dataclasses import dataclass
from typing import Any

from pipeline.maths.comparisons import Comparison, Outcomes
from pipeline.maths.evaluation import Agreement, Rate
from pipeline.maths.statistics import Estimate
from pipeline.results.choosing import Estimator, RefusalTokens, Selection, ValScores
from pipeline.results.effects import Capability, Export, Loss, Safety, Systems
from pipeline.results.origins import Answers, Prompts, Provenance
from pipeline.results.values import Condition

VERSION = 2


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
    answers: Answers
    """Greedy or sampled."""
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
