"""A sweep over candidates, as a race asks for them: as many in a batch as it holds tokens, each batch kept."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from pipeline.maths.directions import Direction
from pipeline.maths.racing import Measure, Prompts
from pipeline.maths.selection import Place, PromptScores
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import scoring
from pipeline.model.passes.budget import Budget
from pipeline.progress import Bar


@runtime_checkable
class Kept(Protocol):
    """Values of batches that were measured before, by name, and where the next ones go."""

    values: dict[str, Any]

    def keep(self, values: Mapping[str, Any]) -> None: ...


def measured(
    model: ChatModel,
    prompts: scoring.Validation,
    candidates: Mapping[Place, Direction],
    coefficient: float,
    max_tokens: int,
    kept: Kept,
    bar: Bar,
    budget: Budget,
) -> Measure:
    """Scores of candidates on some prompts; a batch that was kept is taken from there."""

    def measure(places: Sequence[Place], part: Prompts) -> dict[Place, PromptScores]:
        scores: dict[Place, PromptScores] = {}
        for batch in scoring.groups(places, prompts, part, max_tokens):
            name = _name(batch, part)
            is_known = name in kept.values
            budget.take(batch, part)
            bar.total(budget.total, done=budget.spent if is_known else None)
            if not is_known:
                directions = [candidates[place] for place in batch]
                rows = scoring.score_directions(model, directions, prompts, coefficient, max_tokens, part, bar)
                kept.keep({name: [row.record for row in rows]})
            scores |= {place: PromptScores.of(row) for place, row in zip(batch, kept.values[name], strict=True)}
        return scores

    return measure


def _name(batch: Sequence[Place], part: Prompts) -> str:
    return hashlib.sha256(repr((batch, part.harmful, part.harmless)).encode()).hexdigest()[:16]
