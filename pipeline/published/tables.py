"""Published results beside recomputed ones: what a replay holds, and its tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from pipeline.errors import UserError, first_line
from pipeline.maths.selection import CandidateScores
from pipeline.printed import Shown
from pipeline.published.files import Published
from pipeline.published.maths.checks import Check
from pipeline.published.maths.choice import ChoiceReplay, place, replay_choice
from pipeline.published.maths.direction import DirectionReplay, replay_direction
from pipeline.published.maths.rates import LossReplay, RateReplay, replay_losses, replay_rate


@dataclass(frozen=True)
class Replayed:
    """One model's published results, computed again; no `direction` where none is published."""

    published: Published
    choice: ChoiceReplay
    direction: DirectionReplay | None
    rates: tuple[RateReplay, ...]
    losses: tuple[LossReplay, ...]

    def checks(self) -> list[Check]:
        """Every recomputed value beside the published one."""
        parts = [self.choice, *([self.direction] if self.direction else []), *self.rates, *self.losses]
        return [check for part in parts for check in part.checks()]


def replayed(run: Published, pair: tuple[Tensor, Tensor] | None) -> Replayed:
    """Every published number of a model again. Raises UserError for one that no run can have."""
    try:
        return Replayed(
            published=run,
            choice=replay_choice(run.scores, run.n_layers, run.chosen),
            direction=replay_direction(*pair, run.chosen) if pair else None,
            rates=tuple(replay_rate(name, rate) for name, rate in run.rates.items()),
            losses=tuple(replay_losses(run.losses)),
        )
    except (ValueError, OverflowError) as error:
        raise UserError(f"model '{run.name}': {first_line(error)}") from None


def candidates(results: list[Replayed]) -> pd.DataFrame:
    """A row per candidate; `rejected_by` is empty for the chosen one."""
    columns = ("position", "layer", "bypass", "induce", "kl")
    return pd.DataFrame(
        {"model": result.published.name, **{key: str(getattr(scores, key)) for key in columns}, "rejected_by": reason}
        for result in results
        for scores, reason in zip(result.published.scores, result.choice.reasons, strict=True)
    )


def checks_table(results: list[Replayed]) -> Shown:
    """Recomputed beside published, a section per model."""
    table = Shown("model", "what", "recomputed", "published", "tolerance", "difference", "beside it")
    for result in results:
        for part, note in _noted(result):
            for check in part.checks():
                difference = "equal" if check.difference == 0 else f"{check.difference:.2g}"
                verdict = difference if check.holds else f"DIFFERS by {difference}"
                values = (shown(check.recomputed), shown(check.published), f"{check.tolerance:g}")
                table.add_row(result.published.name, check.what, *values, verdict, note)
                note = ""
        table.add_section()
    return table


def _noted(result: Replayed) -> Iterator[tuple[Any, str]]:
    """The parts of a model, each with what stands beside its first row."""
    kept = len(result.choice.selection.kept)
    yield result.choice, f"{kept} of {len(result.choice.reasons)} candidates kept"
    if part := result.direction:
        zeros = f"{len(part.exact_zeros)} cells zero, {len(part.rounding)} up to rounding"
        yield part, f"|r| {part.length:.4f}; next cell {part.second} cosine {part.second_cosine:.3f}; {zeros}"
    for rate in result.rates:
        yield rate, f"95 % {rate.score.low:.3f} to {rate.score.high:.3f}, n {rate.score.n}"
    for loss in result.losses:
        yield loss, f"loss {loss.ce_loss:.4f}, change {loss.change:+.4f}"


def shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def choices_table(results: list[Replayed]) -> Shown:
    """How close winner and runner-up are to each bound, what could overtake, and why the others lost."""
    table = Shown("model", "candidate", "(position, layer)", "bypass", "induce", "kl", "to spare", "reasons")
    for result in results:
        choice = result.choice
        reasons = ", ".join(f"{name} {count}" for name, count in choice.counts.items() if count)
        for name, row in (("winner", choice.winner), ("runner-up", choice.runner_up)):
            if row:
                spare = f"kl {row.kl:.4f}, induce {row.induce:.3f}, layers {row.layers}, bypass {row.bypass:.4f}"
                table.add_row(result.published.name, name, *_scores(row.candidate), spare, reasons)
                reasons = ""
        if choice.rival:
            spare = f"chosen with bounds looser by {choice.rival_shortfall:.4f}"
            table.add_row(result.published.name, "rival", *_scores(choice.rival), spare, "")
        table.add_section()
    return table


def _scores(candidate: CandidateScores) -> tuple[str, ...]:
    scores = (candidate.bypass, candidate.induce, candidate.kl)
    return (str(place(candidate)), *(f"{score:.4f}" for score in scores))
