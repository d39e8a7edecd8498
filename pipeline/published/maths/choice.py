"""The published choice among the published scores of every candidate, by rule `paper` (section 2.3, appendix C)."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.maths.selection import CandidateScores, Place, Selection, Thresholds, rejection, select, thresholds_for
from pipeline.published.maths.checks import Check

LARGER_BYPASS = "larger bypass"


@dataclass(frozen=True)
class Margins:
    """How far inside the bounds a candidate is, positive inside: nats for kl and induce, blocks for layers.

    bypass: how much smaller (nats) the winner's bypass is than this candidate's.
    """

    candidate: CandidateScores
    kl: float
    induce: float
    layers: int
    bypass: float


@dataclass(frozen=True)
class ChoiceReplay:
    """Rule `paper` on published scores: why every candidate but the chosen one lost, in the order of the rows.

    `winner` and `runner_up`: the kept candidates with the two smallest bypass. `rival`: of the rejected
    candidates with a smaller bypass than the winner, the one that the smallest loosening of the kl and
    induce bounds would choose; `rival_shortfall` is that loosening in nats.
    """

    selection: Selection
    published: Place
    reasons: tuple[str | None, ...]
    winner: Margins | None
    runner_up: Margins | None
    rival: CandidateScores | None
    rival_shortfall: float | None

    @property
    def counts(self) -> dict[str, int]:
        """How many candidates lost for each reason; the chosen one has none."""
        removed = {name: len(rows) for name, rows in self.selection.removed_by.items()}
        return {**removed, LARGER_BYPASS: max(len(self.selection.kept) - 1, 0)}

    def checks(self) -> list[Check]:
        """The choice is the published one."""
        chosen = place(self.selection.chosen)
        return [Check("chosen (position, layer)", chosen, self.published, float(chosen != self.published), 0.0)]


def place(candidate: CandidateScores | None) -> Place | None:
    """(position, layer) of a candidate."""
    return (candidate.position, candidate.layer) if candidate else None


def replay_choice(scores: Sequence[CandidateScores], n_layers: int, published: Place) -> ChoiceReplay:
    """Rule `paper` on the published scores of every candidate (section 2.3; bounds as in the paper's code)."""
    thresholds = thresholds_for("paper", n_layers)
    selection = select(scores, thresholds, "paper")
    ranked = sorted(selection.kept, key=lambda c: c.bypass)
    best = [margins(candidate, thresholds, ranked[0].bypass) for candidate in ranked[:2]]
    rival = _rival(scores, thresholds, ranked[0].bypass) if ranked else None
    return ChoiceReplay(
        selection=selection,
        published=published,
        reasons=tuple(_reason(candidate, selection) for candidate in scores),
        winner=best[0] if best else None,
        runner_up=best[1] if len(best) > 1 else None,
        rival=rival,
        rival_shortfall=_score_shortfall(rival, thresholds) if rival else None,
    )


def margins(candidate: CandidateScores, thresholds: Thresholds, best_bypass: float) -> Margins:
    """Distance of a candidate to each bound, and of its bypass to the best."""
    return Margins(
        candidate=candidate,
        kl=thresholds.kl - candidate.kl,
        induce=candidate.induce - thresholds.induce,
        layers=thresholds.max_layer - 1 - candidate.layer,
        bypass=candidate.bypass - best_bypass,
    )


def _reason(candidate: CandidateScores, selection: Selection) -> str | None:
    if candidate is selection.chosen:
        return None
    return rejection(candidate, selection.thresholds) or LARGER_BYPASS


def _score_shortfall(candidate: CandidateScores, thresholds: Thresholds) -> float:
    return max(candidate.kl - thresholds.kl, thresholds.induce - candidate.induce)


def _rival(scores: Sequence[CandidateScores], thresholds: Thresholds, bypass: float) -> CandidateScores | None:
    better = [c for c in scores if c.bypass < bypass and rejection(c, thresholds) in ("kl", "induce")]
    return min(better, key=lambda c: _score_shortfall(c, thresholds), default=None)
