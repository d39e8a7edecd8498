"""What directions do on test prompts: each ablated, subtracted and added, as many in a batch as it holds tokens."""

from collections.abc import Mapping

from pipeline.maths.directions import Direction
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import scoring
from pipeline.progress import Bar


def groups(directions: Mapping[str, Direction], work: scoring.Work, max_tokens: int) -> list[dict[str, Direction]]:
    """Directions that are scored together, at least one: what a batch holds of them."""
    names = list(directions)
    size = max(1, int(max_tokens // max(work.directions([direction]) for direction in directions.values())))
    parts = [names[first : first + size] for first in range(0, len(names), size)]
    return [{name: directions[name] for name in part} for part in parts]


def tokens(group: Mapping[str, Direction], work: scoring.Work) -> float:
    """What scoring a group runs."""
    return work.directions(list(group.values())) + work.subtractions(list(group.values()))


def scores(
    model: ChatModel,
    prompts: scoring.Validation,
    group: Mapping[str, Direction],
    coefficient: float,
    max_tokens: int,
    bar: Bar,
) -> dict[str, dict[str, list[float]]]:
    """By direction: bypass, subtraction, induce and kl of every prompt, nats."""
    directions = list(group.values())
    scored = scoring.score_directions(model, directions, prompts, coefficient, max_tokens, progress=bar)
    subtracted = scoring.subtracted(model, directions, prompts, coefficient, max_tokens, bar)
    return {
        name: {
            "bypass": list(row.bypass),
            "subtraction": list(metric),
            "induce": list(row.induce),
            "kl": list(row.kl),
        }
        for name, row, metric in zip(group, scored, subtracted, strict=True)
    }
