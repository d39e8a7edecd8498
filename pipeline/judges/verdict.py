"""What every judge answers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether a completion refuses, and what showed it. None is `unknown`, never a "no"."""

    refused: bool | None
    reason: str
