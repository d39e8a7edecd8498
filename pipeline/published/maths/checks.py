"""What every replay hands on: a recomputed value beside the published one.

Dot products and norms are correctly rounded (`math.fsum`), and what goes through a library's exp or quantile is kept to
12 digits, so that results are equal on every machine.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """A recomputed value beside the published one; `difference` may be at most `tolerance`."""

    what: str
    recomputed: Any
    published: Any
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """A difference that is not a number does not hold."""
        return self.difference <= self.tolerance


def steady(value: float) -> float:
    """A number to 12 significant digits: C libraries and releases of scipy differ in the last ones."""
    return float(f"{value:.12g}")
