"""The sweep over candidates: as many in a batch as it holds tokens, each batch kept."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from pipeline.maths.directions import Direction
from pipeline.maths.selection import Place, PromptScores
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import scoring
from pipeline.progress import Bar

Candidates = Mapping[Place, Direction]


@runtime_checkable
class Kept(Protocol):
    """Scores of candidates that were measured before, by name, and where the next ones go."""

    values: dict[str, Any]

    def keep(self, values: Mapping[str, Any]) -> None: ...


def n_tokens(work: scoring.Work, candidates: Candidates, max_tokens: int) -> float:
    """Tokens that `measured` runs where nothing was kept."""
    batches = scoring.groups(candidates, work.split, max_tokens)
    return sum(work.directions([candidates[place] for place in batch]) for batch in batches)


def measured(
    model: ChatModel,
    prompts: scoring.Validation,
    candidates: Candidates,
    coefficient: float,
    max_tokens: int,
    kept: Kept,
    bar: Bar,
) -> dict[Place, PromptScores]:
    """Scores of every candidate on every prompt; those of a batch that was kept are taken from there."""
    work = scoring.Work(model, prompts.split, prompts.n_harmful)
    for batch in scoring.groups(candidates, prompts.split, max_tokens):
        directions = {_name(place): candidates[place] for place in batch}
        if directions.keys() <= kept.values.keys():
            bar.total(bar.whole, done=bar.done + work.directions([*directions.values()]))
            continue
        rows = scoring.score_directions(model, [*directions.values()], prompts, coefficient, max_tokens, bar)
        kept.keep({name: row.record for name, row in zip(directions, rows, strict=True)})
    return {place: PromptScores.of(kept.values[_name(place)]) for place in candidates}


def _name(place: Place) -> str:
    return f"position {place[0]}, layer {place[1]}"
