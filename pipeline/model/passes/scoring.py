"""The three scores of a candidate direction (paper, section 2.3)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition, AffineEdit, DirectionalAblation, Intervention
from pipeline.maths.metrics import kl_divergence, refusal_metric
from pipeline.maths.selection import Baselines, Place, PromptScores
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.forward import Split, Start, States, job_tokens, run_jobs, unchanged, unchanged_tokens
from pipeline.model.passes.rowwise import Rows, intervene_rows
from pipeline.model.passes.ticking import Advance, silent

READ_ROWS = 256  # rows of logits that are widened to float64 together


@dataclass(frozen=True, eq=False)
class Validation:
    """Val prompts as tokens, harmful ones first, and what the unchanged model makes of them."""

    split: Split
    n_harmful: int
    refusal_tokens: Int[Tensor, " token"]
    harmless_logits: Float[Tensor, "prompt d_vocab"]
    harmful_metric: Float[Tensor, " harmful"]
    harmless_metric: Float[Tensor, " harmless"]
    states: States

    @property
    def baselines(self) -> Baselines:
        """Mean refusal metric of the unchanged model on each class."""
        return Baselines(float(self.harmful_metric.mean()), float(self.harmless_metric.mean()))

    @property
    def sizes(self) -> dict[str, int]:
        """Number of prompts of each class."""
        return {"harmful": self.n_harmful, "harmless": len(self.split.rests) - self.n_harmful}


def prepare(
    model: ChatModel,
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    refusal_tokens: Int[Tensor, " token"],
    max_tokens: int,
    progress: Advance = silent,
) -> Validation:
    """Run the unchanged model once over the val prompts. `progress`: see `Work.unchanged`."""
    split, n = Split.of(model, [*harmful, *harmless]), len(harmful)
    logits, states = unchanged(model, split, max_tokens, progress)
    metric = refusal_metric(logits, refusal_tokens)
    return Validation(split, n, refusal_tokens, logits[n:], metric[:n], metric[n:], states)


def score(
    model: ChatModel,
    ablation: Intervention,
    addition: Intervention,
    validation: Validation,
    max_tokens: int,
    progress: Advance = silent,
) -> PromptScores:
    """bypass and kl of every prompt under `ablation`, induce under `addition`."""
    return _scores(model, [ablation], [addition], validation, max_tokens, progress)[0]


def score_direction(
    model: ChatModel,
    direction: Direction,
    validation: Validation,
    coefficient: float,
    max_tokens: int,
    progress: Advance = silent,
) -> PromptScores:
    """The scores of directional ablation of a direction, and of adding `coefficient` times it."""
    return score_directions(model, [direction], validation, coefficient, max_tokens, progress)[0]


def score_directions(
    model: ChatModel,
    directions: Sequence[Direction],
    validation: Validation,
    coefficient: float,
    max_tokens: int,
    progress: Advance = silent,
) -> list[PromptScores]:
    """The same of several directions in shared batches, a direction per row."""
    ablations = [DirectionalAblation(direction) for direction in directions]
    additions = [ActivationAddition(direction, coefficient) for direction in directions]
    return _scores(model, ablations, additions, validation, max_tokens, progress)


def _scores(
    model: ChatModel,
    ablations: Sequence[Intervention],
    additions: Sequence[Intervention],
    validation: Validation,
    max_tokens: int,
    progress: Advance,
) -> list[PromptScores]:
    states, everything = range(len(ablations)), range(len(validation.split.rests))
    harmful, harmless = everything[: validation.n_harmful], everything[validation.n_harmful :]
    ablated = _run(model, ablations, everything, validation, max_tokens, progress)
    added = _run(model, additions, harmless, validation, max_tokens, progress)
    scores = []
    for _ in states:
        bypass = [metric for metric, _ in islice(ablated, len(harmful))]
        kl = [value for _, value in islice(ablated, len(harmless))]
        induce = [metric for metric, _ in islice(added, len(harmless))]
        scores.append(PromptScores(tuple(bypass), tuple(induce), tuple(kl)))
    return scores


def subtracted(
    model: ChatModel,
    directions: Sequence[Direction],
    validation: Validation,
    coefficient: float,
    max_tokens: int,
    progress: Advance = silent,
) -> list[tuple[float, ...]]:
    """Refusal metric of every harmful prompt with `coefficient` times each direction subtracted."""
    changes, prompts = [ActivationAddition(each, -coefficient) for each in directions], range(validation.n_harmful)
    found = _run(model, changes, prompts, validation, max_tokens, progress)
    return [tuple(metric for metric, _ in islice(found, len(prompts))) for _ in directions]


def _run(
    model: ChatModel,
    changes: Sequence[Intervention],
    prompts: Sequence[int],
    validation: Validation,
    max_tokens: int,
    progress: Advance,
) -> Iterator[tuple[float, float]]:
    """`_read` of every prompt under the first intervention, then under the next."""
    rows, jobs = Rows.none(), [(state, prompt) for state in range(len(changes)) for prompt in prompts]
    start = _start(changes, validation.states)

    def read(logits: Tensor, batch: list[int]) -> list[tuple[float, float]]:
        return _read(logits, [jobs[job][1] for job in batch], validation)

    with intervene_rows(model, changes, rows):
        return iter(run_jobs(model, validation.split, jobs, max_tokens, read, progress, rows, start))


def _start(changes: Sequence[Intervention], states: States) -> Start | None:
    layer = _first_layer(changes)
    return Start(layer, states) if layer else None


def _first_layer(changes: Sequence[Intervention]) -> int:
    """Where what the interventions change begins, when all act at the input of a block and not below."""
    local = [each.direction.layer for each in changes if isinstance(each, ActivationAddition | AffineEdit)]
    return min(local, default=0) if len(local) == len(changes) else 0


def _read(
    logits: Float[Tensor, "row d_vocab"], prompts: Sequence[int], validation: Validation
) -> list[tuple[float, float]]:
    """Refusal metric of each row and, of harmless prompts, KL from the unchanged model (else NaN)."""
    pairs = []
    for first in range(0, len(prompts), READ_ROWS):
        part = torch.tensor(prompts[first : first + READ_ROWS]) - validation.n_harmful
        rows = logits[first : first + READ_ROWS].float()
        rows = rows if rows.is_cuda else rows.cpu()
        kl = torch.full((len(rows),), math.nan, dtype=torch.float64, device=rows.device)
        harmless = part >= 0
        if harmless.any():
            baseline = validation.harmless_logits[part[harmless]].to(rows.device)
            kl[harmless] = kl_divergence(baseline, rows[harmless])
        pairs += zip(refusal_metric(rows, validation.refusal_tokens).tolist(), kl.tolist(), strict=True)
    return pairs


@dataclass(frozen=True, eq=False)
class Work:
    """Tokens that scoring takes, known before anything has run; by them `progress` advances."""

    model: ChatModel
    split: Split
    n_harmful: int

    @classmethod
    def of(cls, model: ChatModel, harmful: Sequence[Sequence[int]], harmless: Sequence[Sequence[int]]) -> "Work":
        """Of these val prompts."""
        return cls(model, Split.of(model, [*harmful, *harmless]), len(harmful))

    @property
    def unchanged(self) -> float:
        """What `prepare` runs."""
        return unchanged_tokens(self.split)

    def directions(self, directions: Sequence[Direction]) -> float:
        """What `score_directions` runs, all in one call."""
        ablations = [DirectionalAblation(direction) for direction in directions]
        return self.interventions(ablations, [ActivationAddition(direction) for direction in directions])

    def interventions(self, ablations: Sequence[Intervention], additions: Sequence[Intervention]) -> float:
        """What scoring these runs: ablations on both classes, additions on the harmless one, from where they start."""
        everything = range(len(self.split.rests))
        pairs = ((ablations, everything), (additions, everything[self.n_harmful :]))
        return sum(self._one(changes, prompts) for changes, prompts in pairs)

    def subtractions(self, directions: Sequence[Direction]) -> float:
        """What `subtracted` runs, all in one call."""
        return self._one([ActivationAddition(direction) for direction in directions], range(self.n_harmful))

    def _one(self, changes: Sequence[Intervention], prompts: Sequence[int]) -> float:
        share = 1.0 - _first_layer(changes) / self.model.n_layers
        return job_tokens(self.split, prompts, len(changes), share) if prompts else 0.0


def groups(places: Iterable[Place], split: Split, max_tokens: int) -> list[Sequence[Place]]:
    """Candidates that are scored together: as many as a batch holds tokens, and at least one.

    By layer, since the additions of a group start where the first of its candidates lies.
    """
    each = len(split.shared) + sum(map(len, split.rests))  # tokens of an ablation, shared ones once, without padding
    size = max(1, max_tokens // each)
    ordered = sorted(places, key=lambda place: (place[1], place[0]))
    return [ordered[first : first + size] for first in range(0, len(ordered), size)]


def candidates(r: Float[Tensor, "position layer d_model"], max_layer: int) -> list[Direction]:
    """Every (position, layer) below `max_layer` as a direction; later layers can never be chosen."""
    n_positions, n_layers, _ = r.shape
    return [
        Direction(r[index, layer], layer, index - n_positions)
        for index in range(n_positions)
        for layer in range(min(max_layer, n_layers))
    ]


def read_each(
    model: ChatModel,
    change: Intervention,
    prompts: Sequence[int],
    validation: Validation,
    max_tokens: int,
    progress: Advance = silent,
) -> list[tuple[float, float]]:
    """Refusal metric and KL(baseline || changed) of single prompts under one change, nats.

    `prompts` by their numbers in `validation`; KL is NaN for harmful ones.
    """
    return list(_run(model, [change], prompts, validation, max_tokens, progress))
