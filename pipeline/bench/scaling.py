"""How the sweep's time and memory grow with prompts, candidates, layers and model size.

Every point is a process of its own, so that its peak memory is its own. Weights are random but for the models
named; the cost of a pass does not depend on their values.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.stats import linregress

from pipeline.bench.material import Material, compose_now, of_size, peak_bytes, synthetic
from pipeline.bench.timing import Row, in_process, in_turn, median
from pipeline.model.passes import scoring

SECTION = "scaling of the sweep"
HIDDEN, LAYERS, PROMPTS, CANDIDATES = 256, 8, 32, 4  # of a point, where the axis is another


@dataclass(frozen=True)
class Point:
    """A sweep of some candidates on harmful and harmless prompts, with a random model of a size or a named one."""

    n_prompts: int = PROMPTS
    n_candidates: int = CANDIDATES
    n_layers: int = LAYERS
    hidden: int = HIDDEN
    model: str = ""


AXES: dict[str, tuple[tuple[int, Point], ...]] = {
    "prompts per class": tuple((n, Point(n_prompts=n)) for n in (16, 32, 64, 128)),
    "candidates": tuple((n, Point(n_candidates=n)) for n in (4, 8, 16, 32)),
    "layers": tuple((n, Point(n_layers=n)) for n in (4, 8, 16, 32)),
    "width": tuple((n, Point(hidden=n)) for n in (128, 256, 512, 1024)),
}
MODELS = ("smollm2_135m", "qwen2_5_coder_0_5b")


def rows(dtype: str, repeats: int, models: Sequence[str] = MODELS) -> Iterator[Row]:
    """Seconds and MiB of every point, and the exponent of each axis with its standard error."""
    for axis, points in AXES.items():
        found = [(size, *_apart(point, dtype, repeats)[:2]) for size, point in points]
        for size, seconds, peak in found:
            yield Row(SECTION, f"{axis} {size}: time", seconds, "s")
            yield Row(SECTION, f"{axis} {size}: peak memory", peak / 2**20, "MiB")
        fit: Any = linregress(np.log([row[0] for row in found]), np.log([row[1] for row in found]))
        yield Row(SECTION, f"time grows with {axis} to the power", float(fit.slope), f"+- {fit.stderr:.2f}")
    sizes = []
    for name in models:
        seconds, peak, parameters = _apart(Point(model=name), dtype, repeats)
        sizes.append((parameters, seconds))
        yield Row(SECTION, f"{name}, {parameters / 1e6:.0f} M in blocks: time", seconds, "s")
        yield Row(SECTION, f"{name}: peak memory", peak / 2**20, "MiB")
    if len(sizes) > 1:
        (small, fast), (large, slow) = sizes[0], sizes[-1]
        power = float(np.log(slow / fast) / np.log(large / small))
        yield Row(SECTION, f"time grows from {models[0]} to {models[-1]} with parameters to the power", power, "")


def _apart(point: Point, dtype: str, repeats: int) -> tuple[float, int, int]:
    """Seconds, peak bytes and parameters in blocks, from a process that does this and nothing else."""
    told = json.loads(in_process("pipeline.bench.scaling", json.dumps(vars(point)), dtype, str(repeats)))
    return told["seconds"], told["peak"], told["parameters"]


def measure(m: Material, repeats: int) -> float:
    """Median seconds of scoring every candidate on every prompt, in the sweep's groups."""
    validation = m.validation()

    def sweep() -> None:
        for group in scoring.groups(m.candidates, validation.split, m.max_tokens):
            chosen = [m.candidates[place] for place in group]
            scoring.score_directions(m.model, chosen, validation, 1.0, m.max_tokens)

    return median(in_turn({"sweep": sweep}, repeats)["sweep"])


def main() -> None:
    """One point as JSON: `POINT DTYPE REPEATS`."""
    point, dtype, repeats = Point(**json.loads(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    with TemporaryDirectory() as cache:
        config = compose_now(point.model) if point.model else of_size((point.hidden, point.n_layers), Path(cache))
        m = synthetic(config, point.n_prompts, point.n_candidates, dtype)
    seconds = measure(m, repeats)
    parameters = sum(weight.numel() for block in m.model.sites.blocks for weight in block.parameters())
    print(json.dumps({"seconds": seconds, "peak": peak_bytes(m.model), "parameters": parameters}))


if __name__ == "__main__":
    main()
