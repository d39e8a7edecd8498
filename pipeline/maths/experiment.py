"""The conditions of the experiment: which prompts are answered under which intervention."""

from dataclasses import dataclass

from pipeline.maths.directions import Direction, random_direction
from pipeline.maths.interventions import ActivationAddition, DirectionalAblation, Intervention


@dataclass(frozen=True)
class Condition:
    """Completions of `prompt_set` under `intervention`; `controls` names what it is a control for."""

    name: str
    prompt_set: str
    intervention: Intervention
    controls: str | None = None


def interventions(direction: Direction | None, coefficient: float, seed: int) -> dict[str, Intervention]:
    """Interventions by name: the direction's, and the same with a random direction of equal norm."""
    if direction is None:
        return {"baseline": None}
    random = random_direction(direction, seed)
    return {
        "baseline": None,
        "ablation": DirectionalAblation(direction),
        "subtraction": ActivationAddition(direction, -coefficient),
        "addition": ActivationAddition(direction, coefficient),
        "random_ablation": DirectionalAblation(random),
        "random_subtraction": ActivationAddition(random, -coefficient),
        "random_addition": ActivationAddition(random, coefficient),
    }


PLAN = {
    "harmful": ("baseline", "ablation", "subtraction", "random_ablation", "random_subtraction"),
    "harmless": ("baseline", "addition", "random_addition"),
}


def conditions(direction: Direction | None, coefficient: float, seed: int) -> list[Condition]:
    """Every condition that the verdict supports: without a direction, the two baselines alone."""
    available = interventions(direction, coefficient, seed)
    return [
        Condition(
            name=f"{kind}_{name}",
            prompt_set=f"{kind}_test",
            intervention=available[name],
            controls=f"{kind}_{name.removeprefix('random_')}" if name.startswith("random_") else None,
        )
        for kind, names in PLAN.items()
        for name in names
        if name in available
    ]
