"""Directions that an effect is held against: random, of the activations' covariance, of shuffled labels, of a layer."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.maths.directions import Direction, is_zero, length, mean_row, random_direction
from pipeline.maths.held_out import DIRECTION, ScoredDirection
from pipeline.maths.interventions import ablate
from pipeline.maths.labels import CONTROLS, control_kind

Rows = tuple[Float[Tensor, "harmful d_model"], Float[Tensor, "harmless d_model"]]
Vector = Float[Tensor, " d_model"]


def control_directions(
    chosen: Direction,
    r: Float[Tensor, "position layer d_model"],
    scale: Float[Tensor, "position layer d_model"],
    rows: Rows,
    counts: Mapping[str, int],
    layer_share: float | None,
    seed: int,
) -> dict[str, Direction]:
    """Controls by name: `counts` of each kind that is drawn, with the norm and place of the chosen direction.

    `random_<i>` is isotropic. `covariance_<i>` lies where the activations vary within a class (`within_class_draw`).
    `shuffled_<i>` is the difference in means of shuffled labels without its part along the chosen direction: with it,
    it would be no null, since the few strong directions of the activations carry the shuffled difference as well as
    the true one, and their cosine is anything up to a half. What the rows have no direction for is left out: a class
    of one row does not vary.

    `layer_<l>` is the raw difference in means `r` at int(layer_share * chosen layer) and the same
    position: a real candidate, so expected between nothing and the effect; left out where that is the
    chosen layer itself or has no direction (`scale`: the harmful means), and for a share of None.
    `rows`: `resid_pre` of each class at the chosen place.
    """
    drawn: dict[str, Callable[[int], Vector]] = {
        "random": lambda seed: random_direction(chosen, seed).vector,
        "covariance": lambda seed: within_class_draw(*rows, seed),
        "shuffled": lambda seed: ablate(shuffled_difference(*rows, seed), chosen.r_hat),
    }
    layer, position = chosen.layer, chosen.position
    found: dict[str, Direction] = {}
    for kind, draw in drawn.items():
        size = chosen.vector if kind == "random" else mean_row(rows[0])
        for index in range(counts[kind]):
            vector = draw(_seed(seed, kind, index))
            if not is_zero(vector, size):
                found[f"{kind}_{index}"] = Direction(vector / length(vector) * chosen.norm, layer, position)
    lower = layer if layer_share is None else int(layer_share * layer)
    if lower != layer and not is_zero(r[position, lower], scale[position, lower]):
        found[f"layer_{lower}"] = Direction(r[position, lower], lower, position)
    return found


def _seed(seed: int, kind: str, index: int) -> int:
    """Of one draw: no two kinds share one, and no draw of one run is another draw of a run with the next seed."""
    return int(np.random.SeedSequence([seed, CONTROLS.index(kind), index]).generate_state(1)[0])


def answered(found: Mapping[str, Direction], counts: Mapping[str, int]) -> dict[str, Direction]:
    """The controls whose answers are read as well: the first `counts` of each drawn kind, and every other one."""
    names = {kind: [name for name in found if control_kind(name) == kind] for kind in counts}
    left_out = {name for kind, n in counts.items() for name in names[kind][n:]}
    return {name: direction for name, direction in found.items() if name not in left_out}


def within_class_draw(
    harmful: Float[Tensor, "harmful d_model"], harmless: Float[Tensor, "harmless d_model"], seed: int
) -> Vector:
    """x ~ N(0, S), S the pooled within-class covariance: centred^T g / sqrt(n - 2), g standard normal, float64."""
    rows = _centred(harmful, harmless)
    g = torch.randn(len(rows), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows.T @ g / max(len(rows) - 2, 1) ** 0.5


def shuffled_difference(
    harmful: Float[Tensor, "harmful d_model"], harmless: Float[Tensor, "harmless d_model"], seed: int
) -> Vector:
    """Difference in means of the same rows with their labels shuffled, float64."""
    rows = torch.cat([harmful, harmless]).double()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return rows[order[: len(harmful)]].mean(dim=0) - rows[order[len(harmful) :]].mean(dim=0)


def described(chosen: Direction, controls: Mapping[str, Direction], rows: Rows) -> dict[str, ScoredDirection]:
    """The chosen direction and its controls: how long, how alike, and how much of the activations lies along each.

    The share of the within-class variance along a unit vector x is x S x / trace S = |C x|^2 / |C|^2, C the rows less
    their class's mean; 0 where they do not vary.
    """
    centred = _centred(*rows)
    total = float(centred.square().sum())

    def facts(name: str, direction: Direction) -> ScoredDirection:
        along = float((centred @ direction.r_hat).square().sum())
        cosine = float(direction.r_hat @ chosen.r_hat)
        return ScoredDirection(control_kind(name) or name, cosine, direction.norm, along / total if total else 0.0)

    return {name: facts(name, direction) for name, direction in {DIRECTION: chosen, **controls}.items()}


def _centred(
    harmful: Float[Tensor, "harmful d_model"], harmless: Float[Tensor, "harmless d_model"]
) -> Float[Tensor, "prompt d_model"]:
    """Each row less the mean of its class, float64."""
    return torch.cat([part.double() - mean_row(part) for part in (harmful, harmless)])
