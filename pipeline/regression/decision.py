"""Has a model's refusal behaviour moved? Two measurements on the same prompts, compared as pairs."""

from dataclasses import dataclass

from pipeline.maths.comparisons import Outcomes
from pipeline.maths.statistics import newcombe_difference


@dataclass(frozen=True)
class Move:
    """Change of a condition's refusal score with its 95 % interval; `moved` when that leaves out 0."""

    condition: str
    before: float
    after: float
    low: float
    high: float
    n: int

    @property
    def moved(self) -> bool:
        """The interval of the paired difference does not hold zero."""
        return self.low > 0 or self.high < 0


def move(condition: str, before: Outcomes, after: Outcomes) -> Move:
    """Paired change over the prompts judged in both. Raises ValueError when the prompts differ or none is left."""
    if before.keys() != after.keys():
        raise ValueError(f"{condition} was measured on other prompts")
    ids = [key for key in before if before[key] is not None and after[key] is not None]
    if not ids:
        raise ValueError(f"{condition} has no prompt with a verdict in both measurements")
    first, second = [bool(before[key]) for key in ids], [bool(after[key]) for key in ids]
    low, high = newcombe_difference(first, second)
    return Move(condition, sum(first) / len(ids), sum(second) / len(ids), low, high, len(ids))
