"""Directions that an effect is held against: random, from shuffled labels, of another layer."""

from jaxtyping import Float
from torch import Tensor

from pipeline.maths.directions import Direction, is_zero, random_direction, shuffled_difference


def control_directions(
    chosen: Direction,
    r: Float[Tensor, "position layer d_model"],
    scale: Float[Tensor, "position layer d_model"],
    rows: tuple[Float[Tensor, "harmful d_model"], Float[Tensor, "harmless d_model"]],
    n_random: int,
    n_shuffled: int,
    layer_share: float | None,
    seed: int,
) -> dict[str, Direction]:
    """Controls by name. Random and shuffled ones have the norm and place of the chosen direction.

    `layer_<l>` is the raw difference in means `r` at int(layer_share * chosen layer) and the same
    position: a real candidate, so expected between nothing and the effect; left out where that is the
    chosen layer itself or has no direction (`scale`: the harmful means), and for a share of None.
    `rows`: `resid_pre` of each class at the chosen place.
    """
    directions = {f"random_{index}": random_direction(chosen, seed + index) for index in range(n_random)}
    directions |= {
        f"shuffled_{index}": shuffled_difference(chosen, *rows, seed=seed + index) for index in range(n_shuffled)
    }
    if layer_share is None:
        return directions
    layer, position = int(layer_share * chosen.layer), chosen.position
    if layer != chosen.layer and not is_zero(r[position, layer], scale[position, layer]):
        directions[f"layer_{layer}"] = Direction(r[position, layer], layer, position)
    return directions
