"""The selection sweep against the reference algorithm, and against the machine's matmul ceiling."""

import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.bench import reference
from pipeline.bench.material import Material
from pipeline.bench.timing import Row, in_turn, median
from pipeline.maths.directions import Direction
from pipeline.maths.selection import CandidateScores, Thresholds, select, thresholds_for
from pipeline.model.passes import partial_forward, scoring

SECTION = "selection"
ADDED = 1.0


def rows(material: Material, n_candidates: int, repeats: int, whole: bool) -> Iterator[Row]:
    """Reference and sweep in turn on sampled candidates, scaled; with `whole` the whole sweep is run as well."""
    validation = material.validation()
    baseline = reference.full_logits(material.model, material.harmless)
    sample, ours, theirs, narrow_seconds, rates, worst = material.sample(n_candidates), [], [], [], [], 0.0
    for direction in sample:
        together = _together(material, direction, validation)
        results: dict[str, CandidateScores] = {}
        tasks = {
            "reference": lambda d=direction, r=results: r.update(reference=_reference(material, d, baseline, True)),
            "narrow": lambda d=direction: _reference(material, d, baseline, False),
            "sweep": lambda d=direction, t=together, r=results: r.update(sweep=_sweep(material, d, t, validation)),
            "ceiling": lambda: _matmuls(material),
        }
        seconds = in_turn(tasks, repeats, warm_up=direction is sample[0])
        theirs.append(median(seconds["reference"]))
        narrow_seconds.append(median(seconds["narrow"]))
        ours.append(median(seconds["sweep"]) / len(together))
        ceiling = _matmul_flops(material) / median(seconds["ceiling"])
        rates.append((_flops(material, together, validation) / median(seconds["sweep"]), ceiling))
        worst = max(worst, _difference(results["reference"], results["sweep"]))
    yield Row(SECTION, "reference, per candidate", statistics.mean(theirs), "s")
    yield Row(SECTION, "the same without widening logits, per candidate", statistics.mean(narrow_seconds), "s")
    yield Row(SECTION, "sweep, per candidate (mean over layers)", statistics.mean(ours), "s")
    yield Row(SECTION, f"largest score difference, {material.model.hf.dtype}", worst, "nats", _agreement(material))
    total = statistics.mean(theirs) * material.n_reference
    every = statistics.mean(ours) * len(material.candidates)
    name = f"whole sweep, {len(material.candidates)} candidates / reference, {material.n_reference}"
    yield Row(SECTION, f"{name}: scaled", every / total, "of the time", 1 / 6)
    narrow_total = statistics.mean(narrow_seconds) * material.n_reference
    yield Row(SECTION, f"{name} that does not widen: scaled", every / narrow_total, "of the time")
    rate, ceiling = (statistics.mean(part) for part in zip(*rates, strict=True))
    yield Row(SECTION, "matmul rate of the sweep", rate / 1e9, "GFLOP/s")
    yield Row(SECTION, "matmul ceiling", ceiling / 1e9, "GFLOP/s")
    yield Row(SECTION, "rate / ceiling", statistics.mean(a / b for a, b in rates), "of the ceiling", 0.6, at_least=True)
    if whole:
        yield from _whole(material, total, narrow_total, name)


def _whole(material: Material, total: float, narrow_total: float, name: str) -> Iterator[Row]:
    start = time.perf_counter()
    validation, table = material.validation(), []
    for group in scoring.groups(material.candidates, validation.split, material.max_tokens):
        directions = [material.candidates[place] for place in group]
        scored = scoring.score_directions(material.model, directions, validation, ADDED, material.max_tokens)
        table += [scores.candidate(*place) for place, scores in zip(group, scored, strict=True)]
    seconds = time.perf_counter() - start
    chosen = select(table, _thresholds(material, validation), material.config.select.rule).chosen
    yield Row(SECTION, f"{name}: run", seconds / total, "of the time", 1 / 6)
    yield Row(SECTION, f"{name} that does not widen: run", seconds / narrow_total, "of the time")
    yield Row(SECTION, "position chosen", chosen.position if chosen else 0, "")
    yield Row(SECTION, "layer chosen", chosen.layer if chosen else -1, "")


def _thresholds(material: Material, found: scoring.Validation) -> Thresholds:
    config = material.config.select
    return thresholds_for(config.rule, material.model.n_layers, baselines=found.baselines, **config.limits())


def _reference(material: Material, direction: Direction, baseline: torch.Tensor, widen: bool) -> CandidateScores:
    m = material
    return reference.score(m.model, direction, m.harmful, m.harmless, m.refusal_tokens, baseline, widen)


def _together(material: Material, direction: Direction, found: scoring.Validation) -> list[Direction]:
    """The candidates that the sweep scores in the same batches, this one among them."""
    place = (direction.position, direction.layer)
    groups = scoring.groups(material.candidates, found.split, material.max_tokens)
    return [material.candidates[each] for each in next(group for group in groups if place in group)]


def _sweep(
    material: Material, direction: Direction, together: Sequence[Direction], found: scoring.Validation
) -> CandidateScores:
    """The scores of one candidate, from scoring all that go together with it."""
    scored = scoring.score_directions(material.model, together, found, ADDED, material.max_tokens)
    [scores] = [scores for each, scores in zip(together, scored, strict=True) if each is direction]
    return scores.candidate(direction.position, direction.layer)


def _difference(a: CandidateScores, b: CandidateScores) -> float:
    return max(abs(a.bypass - b.bypass), abs(a.induce - b.induce), abs(a.kl - b.kl))


def _agreement(material: Material) -> float | None:
    return 0.05 if material.model.hf.dtype == torch.float32 else None


def _flops(material: Material, together: Sequence[Direction], found: scoring.Validation) -> int:
    """Floating point operations of the matmuls and attention that these candidates run, padding included."""
    with FlopCounterMode(display=False) as counter:
        _sweep(material, together[0], together, found)
    return counter.get_total_flops()


REPEAT = 20  # matmuls of each shape behind a reading of the ceiling


def _shapes(material: Material) -> list[tuple[int, int]]:
    """(n_out, n_in) of the matrices of an MLP."""
    mlp = partial_forward.mlp_of(material.model.sites, material.model.sites.blocks[0])
    linear = [module for module in mlp.modules() if isinstance(module, torch.nn.Linear)]
    return sorted({(module.out_features, module.in_features) for module in linear})


@torch.inference_mode()
def _matmuls(material: Material) -> None:
    for n_out, n_in in _shapes(material):
        like = {"dtype": material.model.hf.dtype, "device": material.model.device}
        x, w = torch.randn(material.max_tokens, n_in, **like), torch.randn(n_out, n_in, **like)
        for _ in range(REPEAT):
            torch.nn.functional.linear(x, w)


def _matmul_flops(material: Material) -> int:
    return sum(2 * REPEAT * material.max_tokens * n_out * n_in for n_out, n_in in _shapes(material))
