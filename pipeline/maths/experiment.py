"""The conditions of the experiment: which prompts are answered under which intervention."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition, AffineEdit, DirectionalAblation, Intervention, batch_kinds
from pipeline.maths.labels import BASELINE, MAIN_EFFECTS, Label
from pipeline.names import EFFECTS


@dataclass(frozen=True)
class Condition:
    """Completions of a prompt set under an intervention."""

    label: Label
    intervention: Intervention

    @property
    def name(self) -> str:
        """Name in every file and table."""
        return str(self.label)


def interventions(direction: Direction, coefficient: float) -> dict[str, Intervention]:
    """The three interventions of one direction, by effect."""
    return {
        "ablation": DirectionalAblation(direction),
        "subtraction": ActivationAddition(direction, -coefficient),
        "addition": ActivationAddition(direction, coefficient),
    }


def conditions(sources: Mapping[str, Mapping[str, Intervention]], asked: Sequence[str] = EFFECTS) -> list[Condition]:
    """Both baselines, then every effect asked for that each source has, harmful prompts first."""
    plan = [Condition(Label(kind, BASELINE), None) for kind in MAIN_EFFECTS]
    for source, effects in sources.items():
        for kind, names in MAIN_EFFECTS.items():
            plan += [
                Condition(Label(kind, name, source), effects[name])
                for name in names
                if name in effects and name in asked
            ]
    return plan


def further_conditions(
    chosen: Mapping[str, Intervention], sets: Sequence[str], systems: Sequence[str], under_systems: Mapping[str, str]
) -> list[Condition]:
    """Baseline and effects of the chosen direction beyond the main evaluation.

    `sets`: further evaluation sets, on which every effect is measured. `systems`: system prompts by name, under each
    of which the sets `under_systems` (name -> a kind in MAIN_EFFECTS) are answered with the effects of their kind.
    """
    asked = [(name, "", EFFECTS) for name in sets]
    asked += [(name, system, MAIN_EFFECTS[kind]) for system in systems for name, kind in under_systems.items()]
    plan: list[Condition] = []
    for kind, system, effects in asked:
        plan.append(Condition(Label(kind, BASELINE, system=system), None))
        plan += [Condition(Label(kind, name, system=system), chosen[name]) for name in effects if name in chosen]
    return plan


Group = Sequence[Condition]  # conditions whose answers may be computed in one batch


def groups(plan: Sequence[Condition]) -> list[Group]:
    """The plan by what may share a batch: the same prompts under one kind of intervention, the baseline with the first.

    Ablations go together, and additions of one coefficient; any other edit is alone.
    """
    by_kind: dict[tuple[str, Hashable], list[Condition]] = {}
    for condition in plan:
        for kind in batch_kinds([condition.intervention]):
            by_kind.setdefault((str(condition.label.baseline), kind), []).append(condition)
    for condition in (condition for condition in plan if condition.intervention is None):
        open_to_it = [key for key in by_kind if key[0] == condition.name and not _is_alone(by_kind[key])]
        by_kind.setdefault(open_to_it[0] if open_to_it else (condition.name, None), []).insert(0, condition)
    return list(by_kind.values())


def _is_alone(group: Group) -> bool:
    return any(isinstance(condition.intervention, AffineEdit) for condition in group)
