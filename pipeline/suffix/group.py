"""Suffixes that belong together, since one objective made them: the best of them on val prompts is measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.results.suffix import Objective, Searched


@dataclass(frozen=True)
class Group:
    """Suffixes of one objective, and the search that found each; no search where they were given."""

    objective: Objective
    texts: tuple[str, ...]
    searches: tuple[Searched, ...] = ()


def spent(searches: Sequence[Searched]) -> str:
    """What the searches cost, in words."""
    return "; ".join(
        f"{row.n_prompts} prompts, {row.steps} steps of {row.candidates} candidates, {row.cpu_minutes} CPU minutes"
        for row in searches
    )
