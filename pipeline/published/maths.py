"""Published numbers of the paper computed again from what they were published with (Arditi et al. 2024).

The published runs hold the three scores of every candidate and the choice among them (section 2.3,
appendix C), the difference in means of every candidate, attack success rates (section 3) and cross-entropy
losses with perplexities (section 4.3). Dot products and norms are correctly rounded (`math.fsum`), and what
goes through a library's exp or quantile is kept to 12 digits, so that results are equal on every machine.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.maths.directions import Direction
from pipeline.maths.selection import CandidateScores, Place, Selection, Thresholds, rejection, select, thresholds_for
from pipeline.maths.statistics import Estimate, wilson

LARGER_BYPASS = "larger bypass"
PROMPTS = 100  # JailbreakBench, and as many harmless prompts
# A rounding error left where two means are equal: published layer-0 cells are 1e-15 of the longest cell.
ROUNDING = 1e-12


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
        found = place(self.selection.chosen)
        return [Check("chosen (position, layer)", found, self.published, float(found != self.published), 0.0)]


@dataclass(frozen=True)
class DirectionReplay:
    """A published direction beside the published differences in means; cells are (position, layer).

    max_difference and cosine: of `direction` and the cell of the published choice; length and
    unit_length: |r| as stored and |r_hat|; nearest and second: the cells with the largest cosine; exact_zeros: cells
    whose numbers are all 0; rounding: cells no longer than ROUNDING of the longest, which have no direction.
    """

    published: Place
    max_difference: float
    cosine: float
    length: float
    unit_length: float
    nearest: Place
    nearest_cosine: float
    second: Place
    second_cosine: float
    exact_zeros: tuple[Place, ...]
    rounding: tuple[Place, ...]

    def checks(self) -> list[Check]:
        """The direction is the cell of the choice, number by number, and no other cell is nearer to it."""
        return [
            Check("max |direction - mean_diffs|", self.max_difference, 0.0, self.max_difference, 0.0),
            Check("cosine(direction, mean_diffs)", self.cosine, 1.0, abs(self.cosine - 1), 1e-12),
            Check("|r_hat|", self.unit_length, 1.0, abs(self.unit_length - 1), 1e-12),
            Check("nearest cell", self.nearest, self.published, float(self.nearest != self.published), 0.0),
        ]


@dataclass(frozen=True)
class RateReplay:
    """The score that is 1 minus a published success rate, as a share of whole prompts, with its interval."""

    name: str
    score: Estimate
    published: float

    def checks(self) -> list[Check]:
        """The published rate is a whole number of prompts."""
        assert self.score.value is not None, "a score of at least one prompt"
        return [Check(self.name, self.score.value, self.published, abs(self.score.value - self.published), 1e-9)]


@dataclass(frozen=True)
class LossReplay:
    """Cross-entropy (nats per token) of a text under an intervention, and its change from the baseline.

    perplexity is exp(ce_loss), and relative its relative difference from the published one.
    """

    name: str
    ce_loss: float
    change: float
    perplexity: float
    published: float
    relative: float

    def checks(self) -> list[Check]:
        """The published perplexity is exp(loss)."""
        return [Check(f"perplexity, {self.name}", self.perplexity, self.published, self.relative, 1e-6)]


def steady(value: float) -> float:
    """A number to 12 significant digits: C libraries and releases of scipy differ in the last ones."""
    return float(f"{value:.12g}")


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


def replay_direction(
    mean_diffs: Float[Tensor, "position layer d_model"], direction: Float[Tensor, " d_model"], published: Place
) -> DirectionReplay:
    """Is direction = mean_diffs[position, layer] at the published choice, and at no other cell?

    Raw difference in means, in units of `resid_pre`. Raises ValueError for a choice outside `mean_diffs`,
    numbers that are not finite, a direction without length, and fewer than two cells with one.
    """
    n_positions, n_layers, _ = mean_diffs.shape
    if not (-n_positions <= published[0] < 0 <= published[1] < n_layers):
        raise ValueError(f"the choice {published} is not a cell of mean_diffs of shape {tuple(mean_diffs.shape)}")
    if not (mean_diffs.isfinite().all() and direction.isfinite().all()):
        raise ValueError("mean_diffs or direction has a number that is not finite")
    lengths = torch.tensor([[length(cell) for cell in row] for row in mean_diffs], dtype=torch.float64)
    rounding = lengths <= ROUNDING * lengths.max()
    if length(direction) == 0 or (~rounding).sum() < 2:
        raise ValueError("the direction, or all but one cell of mean_diffs, has no length")
    cosines = torch.tensor([[cosine(cell, direction) for cell in row] for row in mean_diffs], dtype=torch.float64)
    (nearest, nearest_cosine), (second, second_cosine) = _largest_two(cosines.masked_fill(rounding, -math.inf))
    at = mean_diffs[published]
    return DirectionReplay(
        published=published,
        max_difference=float((direction.double() - at.double()).abs().max()),
        cosine=cosine(at, direction),
        length=length(direction),
        unit_length=steady(length(Direction(direction, published[1], published[0]).r_hat)),
        nearest=nearest,
        nearest_cosine=nearest_cosine,
        second=second,
        second_cosine=second_cosine,
        exact_zeros=_cells(lengths == 0),
        rounding=_cells(rounding),
    )


def length(vector: Float[Tensor, " d_model"]) -> float:
    """|v| in float64, rounded once."""
    return math.sqrt(_dot(vector, vector))


def cosine(a: Float[Tensor, " d_model"], b: Float[Tensor, " d_model"]) -> float:
    """a.b / (|a| |b|), to 12 digits; 0 where a vector has no length."""
    scale = length(a) * length(b)
    return steady(_dot(a, b) / scale) if scale > 0 else 0.0


def _dot(a: Float[Tensor, " d_model"], b: Float[Tensor, " d_model"]) -> float:
    return math.fsum((a.double() * b.double()).tolist())


def _largest_two(cosines: Float[Tensor, "position layer"]) -> list[tuple[Place, float]]:
    values, indices = cosines.flatten().topk(2)
    n_positions, n_layers = cosines.shape
    places = [(i // n_layers - n_positions, i % n_layers) for i in indices.tolist()]
    return list(zip(places, values.tolist(), strict=True))


def _cells(mask: Bool[Tensor, "position layer"]) -> tuple[Place, ...]:
    return tuple((int(i) - mask.shape[0], int(layer)) for i, layer in mask.nonzero())


def replay_rate(name: str, success_rate: float, n: int = PROMPTS) -> RateReplay:
    """score = 1 - success rate, with its 95 % Wilson interval (section 3: substring refusals, Llama Guard 2).

    Raises ValueError for a rate outside 0 to 1.
    """
    if not 0 <= success_rate <= 1:
        raise ValueError(f"'{name}' is {success_rate}, not a rate between 0 and 1")
    count = n - round(success_rate * n)
    low, high = (round(bound, 12) for bound in wilson(count, n))
    return RateReplay(name, Estimate(count / n, low, high, n), steady(1 - success_rate))


def replay_losses(losses: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[LossReplay]:
    """perplexity = exp(ce_loss), and ce_loss - baseline ce_loss, by intervention and text (section 4.3).

    Raises ValueError for a loss that has no finite perplexity, no baseline, or one of another number of tokens.
    """
    if missing := {text for texts in losses.values() for text in texts} - set(losses.get("baseline", {})):
        raise ValueError(f"no baseline loss of {', '.join(sorted(missing))}")
    return [
        _replay_loss(f"{text}, {intervention}", row, losses["baseline"][text])
        for intervention, texts in losses.items()
        for text, row in texts.items()
    ]


def _replay_loss(name: str, row: Mapping[str, float], baseline: Mapping[str, float]) -> LossReplay:
    if not (0 <= row["ce_loss"] < 700 and 1 <= row["perplexity"] < math.inf):
        raise ValueError(f"{name}: loss {row['ce_loss']} and perplexity {row['perplexity']} are not of any text")
    if row["n_tokens"] != baseline["n_tokens"]:
        raise ValueError(f"{name}: {row['n_tokens']} tokens, and {baseline['n_tokens']} for the baseline")
    perplexity = math.exp(row["ce_loss"])
    return LossReplay(
        name=name,
        ce_loss=row["ce_loss"],
        change=row["ce_loss"] - baseline["ce_loss"],
        perplexity=steady(perplexity),
        published=row["perplexity"],
        relative=round(abs(perplexity / row["perplexity"] - 1), 12),
    )
