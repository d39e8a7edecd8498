"""What directions from fewer train prompts do, beside the direction of all of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.maths.directions import Direction
from pipeline.maths.selection import PromptScores
from pipeline.maths.stability import Subset
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import scoring
from pipeline.progress import Bar


def learning_curve(
    model: ChatModel,
    chosen: Direction,
    subsets: Sequence[Subset],
    prompts: scoring.Validation,
    coefficient: float,
    max_tokens: int,
    checked: Callable[[PromptScores], PromptScores],
    bar: Bar,
) -> Iterator[dict[str, Any]]:
    """Size, cosine with the chosen direction and val scores of each subset; the chosen direction last, of size None.

    `checked` sees the scores before means are taken of them.
    """
    bar.step("learning curve")
    points = [(subset.n, subset.cosine, Direction(subset.r, chosen.layer, chosen.position)) for subset in subsets]
    for n, cosine, direction in [*points, (None, 1.0, chosen)]:
        scores = scoring.score_direction(model, direction, prompts, coefficient, max_tokens, bar)
        row = checked(scores).candidate(direction.position, direction.layer)
        yield {"n": n, "cosine": cosine, "bypass": row.bypass, "induce": row.induce, "kl": row.kl}
