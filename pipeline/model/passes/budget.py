"""What a sweep over candidates still takes, as some of them stop."""

from collections.abc import Iterable, Mapping, Sequence

from pipeline.maths.directions import Direction
from pipeline.maths.racing import Place, Prompts
from pipeline.model.passes.scoring import Work


class Budget:
    """Tokens that were run, and those left to run for every candidate."""

    def __init__(self, work: Work, candidates: Mapping[Place, Direction], before: float = 0.0):
        """Every candidate on every prompt; `before`: tokens of other steps under the same count."""
        self._work, self._candidates, self.spent = work, candidates, before
        self._left = {place: work.directions([direction]) for place, direction in candidates.items()}

    @property
    def total(self) -> float:
        """Run, and left to run, if no other candidate stops."""
        return self.spent + sum(self._left.values())

    def take(self, places: Sequence[Place], part: Prompts) -> None:
        """These candidates are measured on some prompts now, together."""
        for place in places:
            own = self._work.directions([self._candidates[place]], part)
            self._left[place] = max(0.0, self._left[place] - own)
        self.spent += self._work.directions([self._candidates[place] for place in places], part)

    def stop(self, places: Iterable[Place]) -> None:
        """These candidates are measured on no further prompt."""
        self._left |= dict.fromkeys(places, 0.0)
