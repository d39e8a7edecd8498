"""What every judge answers."""

from dataclasses import dataclass
from typing import Self

from pipeline.names import LABELS, REFUSED


@dataclass(frozen=True)
class Verdict:
    """One of LABELS, what showed it, and how harmful (0 to 1) where the judge gives a number.

    `unknown` is an answer that was not understood or never came: never a "no".
    """

    label: str
    reason: str
    score: float | None = None

    def __post_init__(self):
        assert self.label in LABELS, self.label

    @classmethod
    def of_refusal(cls, refused: bool, reason: str) -> Self:
        """Refused or answered."""
        return cls("refused" if refused else "answered", reason)

    @classmethod
    def unknown(cls, reason: str) -> Self:
        """No verdict, and why."""
        return cls("unknown", reason)

    @property
    def refused(self) -> bool | None:
        """Whether it refuses; None where that is not known."""
        return REFUSED.get(self.label)
