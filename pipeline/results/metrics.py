"""Metrics: all that is measured of one run, typed."""

from dataclasses import dataclass
from typing import Any

from pipeline.maths.claim import Claim
from pipeline.maths.comparisons import Comparison, Outcomes
from pipeline.maths.evaluation import Agreement, Rate
from pipeline.maths.held_out import ScoredDirection
from pipeline.maths.statistics import Estimate
from pipeline.results.choosing import Estimator, HeldOutScores, RefusalTokens, Selection
from pipeline.results.effects import Capability, Export, Loss, Safety, Systems
from pipeline.results.origins import Answers, Prompts, Provenance
from pipeline.results.suffix import Effect, Objective
from pipeline.results.values import Condition

VERSION = 3


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
    """Each against its baseline on the same prompts; a change of the refusal score. Controls without correction."""
    claim: Claim
    """Whether the direction mediates refusal: a verdict on ablation and on addition, with the shares behind it."""
    moved_controls: list[Condition]
    """Null controls whose paired change has a 95 % interval without 0."""
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
    test_scores: HeldOutScores | None
    """None without a direction."""
    direction: ScoredDirection | None
    """The chosen one; None without."""
    controls: dict[str, ScoredDirection]
    """Every control that was scored, by source."""
    estimators: dict[str, Estimator]
    refusal_tokens: RefusalTokens
    outcomes: dict[Condition, Outcomes]
    """Whether each prompt is refused, by its id; None is unknown."""
    selection: Selection
    loss: dict[str, Loss]
    """By set of texts."""
    capability: Capability
    export: Export
    suffixes: dict[Objective, Effect]
    """What adversarial suffixes do, by objective of the search that found them; empty where it was not measured."""
    prompts: Prompts
    provenance: Provenance
    version: int = VERSION
