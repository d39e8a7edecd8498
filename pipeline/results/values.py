"""What results are made of: conditions, and estimates with what is known of them.

Every interval is a 95 % interval. A condition is a `Label`, never a text; in a file it has its name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from pydantic import BeforeValidator

from pipeline.maths.comparisons import Rank
from pipeline.maths.labels import EFFECTS, ON_TREATED, Label, Treatment
from pipeline.maths.statistics import Estimate


def _label(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    label = Label.parse(value)
    return label if label.effect in EFFECTS else _unknown(value, EFFECTS)


def _treatment(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    done = Treatment.parse(value)
    return done if done.effect in ON_TREATED else _unknown(value, ON_TREATED)


def _unknown(name: str, effects: Sequence[str]) -> NoReturn:
    raise ValueError(f"'{name}' names none of the effects {', '.join(effects)}")


Condition = Annotated[Label, BeforeValidator(_label)]
Done = Annotated[Treatment, BeforeValidator(_treatment)]


@dataclass(frozen=True)
class Change(Estimate):
    """A paired change of a mean, in the unit of what changed."""

    detectable: float | None = None
    """Smallest change that so many rows show with 80 % power, in the same unit."""


@dataclass(frozen=True)
class LossChange(Change):
    """A paired change of cross-entropy, nats per token."""

    rank: Rank | None = None
    """Of the direction's rise among its null controls', where there are enough of them for it to say anything."""
