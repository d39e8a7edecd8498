"""Scores of every candidate prompt by prompt, from which margins are made."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.disk import tensors
from pipeline.errors import UserError
from pipeline.maths.selection import CandidateScores, Place, PromptScores

# Types of a sweep's tensors, by name.
SCORES = ("bypass", "induce", "kl", "harmful_metric", "harmless_metric")
SWEEP = {**dict.fromkeys(SCORES, "float64"), "zero_norm": "bool", "place": "int64"}


@dataclass(frozen=True)
class Sweep:
    """Scores per prompt of every candidate, and the unchanged model's metric; None: a candidate's norm is zero."""

    candidates: Mapping[Place, PromptScores | None]
    harmful_metric: Sequence[float]
    harmless_metric: Sequence[float]


def candidate_scores(place: Place, scores: PromptScores | None) -> CandidateScores:
    """Mean scores of a candidate; none of one without direction."""
    return scores.candidate(*place) if scores else CandidateScores.without_direction(*place)


def write_sweep(path: Path, sweep: Sweep, model: str) -> None:
    """Scores per prompt, in the order of the kept val prompts; a candidate without direction has NaN."""
    import torch

    sizes = {
        "bypass": len(sweep.harmful_metric),
        "induce": len(sweep.harmless_metric),
        "kl": len(sweep.harmless_metric),
    }
    values = {
        name: [list(getattr(scores, name)) if scores else [math.nan] * n for scores in sweep.candidates.values()]
        for name, n in sizes.items()
    }
    values |= {"harmful_metric": list(sweep.harmful_metric), "harmless_metric": list(sweep.harmless_metric)}
    stored = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in values.items()}
    stored["zero_norm"] = torch.tensor([scores is None for scores in sweep.candidates.values()])
    stored["place"] = torch.tensor(list(sweep.candidates), dtype=torch.int64)
    tensors.write_tensors(path, stored, {"model": model, "axes": "candidate prompt", "place": "position layer"})


def read_sweep(path: Path, model: str) -> Sweep:
    """The inverse of `write_sweep`. Raises UserError when the file belongs to another model."""
    stored = tensors.read_arrays(path, model=model, axes="candidate prompt", place="position layer")
    types = {name: str(array.dtype) for name, array in stored.items()}
    tensors.require(path, types == SWEEP, f"does not hold {', '.join(SWEEP)}, and each in its type")
    n, harmful, harmless = (len(stored[name]) for name in ("place", "harmful_metric", "harmless_metric"))
    shapes = {"place": (n, 2), "zero_norm": (n,), "harmful_metric": (harmful,), "harmless_metric": (harmless,)}
    shapes |= {"bypass": (n, harmful), "induce": (n, harmless), "kl": (n, harmless)}
    tensors.require(path, all(stored[name].shape == each for name, each in shapes.items()), "holds other shapes")
    rows = list(zip(*(stored[name].tolist() for name in ("place", "zero_norm", "bypass", "induce", "kl")), strict=True))
    candidates = {
        (place[0], place[1]): None if zero else PromptScores(tuple(bypass), tuple(induce), tuple(kl))
        for place, zero, bypass, induce, kl in rows
    }
    tensors.require(path, len(candidates) == n, "has a candidate twice")
    return Sweep(candidates, stored["harmful_metric"].tolist(), stored["harmless_metric"].tolist())


def require_finite(name: str, scores: PromptScores) -> PromptScores:
    """The scores. Raises UserError when one is not finite: no interval can be made from it."""
    bad = [value for rows in (scores.bypass, scores.induce, scores.kl) for value in rows if not math.isfinite(value)]
    if bad:
        raise UserError(f"{name} has {len(bad)} scores that are not finite: use a wider engine.dtype")
    return scores
