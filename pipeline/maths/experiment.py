"""The conditions of the experiment: which prompts are answered under which intervention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition, DirectionalAblation, Intervention

# What an effect is measured on: prompts that a model should refuse, and prompts that it should answer.
EFFECTS = {"harmful": ("ablation", "subtraction"), "harmless": ("addition",)}
BASELINE = "baseline"
ALL_EFFECTS = ("ablation", "subtraction", "addition")


@dataclass(frozen=True)
class Label:
    """What a condition's name says: prompts of `kind` under `effect` of `source` ("" is the chosen direction).

    `kind` is harmful, harmless, or the name of a further evaluation set; `system` the name of a system prompt,
    "" for what the chat template does by itself.
    """

    kind: str
    effect: str
    source: str = ""
    system: str = ""

    @classmethod
    def parse(cls, name: str) -> "Label":
        """The inverse of `str(label)`: kind_effect, kind@system_effect, either with .source behind."""
        head, _, source = name.partition(".")
        prompts, _, effect = head.partition("_")
        kind, _, system = prompts.partition("@")
        return cls(kind, effect, source, system)

    def __str__(self) -> str:
        prompts = self.kind + (f"@{self.system}" if self.system else "")
        return f"{prompts}_{self.effect}" + (f".{self.source}" if self.source else "")

    @property
    def baseline(self) -> str:
        """Name of the condition that this one is compared with."""
        return str(Label(self.kind, BASELINE, system=self.system))

    @property
    def prompt_set(self) -> str:
        """The prompts it is measured on."""
        return f"{self.kind}_test"

    @property
    def is_main(self) -> bool:
        """Measured on the harmful or harmless evaluation prompts as the chat template writes them."""
        return self.kind in EFFECTS and not self.system


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


def conditions(sources: Mapping[str, Mapping[str, Intervention]]) -> list[Condition]:
    """Both baselines, then every effect that each source has, harmful prompts first."""
    found = [Condition(Label(kind, BASELINE), None) for kind in EFFECTS]
    for source, effects in sources.items():
        for kind, names in EFFECTS.items():
            found += [Condition(Label(kind, name, source), effects[name]) for name in names if name in effects]
    return found


def further_conditions(
    chosen: Mapping[str, Intervention], sets: Sequence[str], systems: Sequence[str], under_systems: Mapping[str, str]
) -> list[Condition]:
    """Baseline and effects of the chosen direction beyond the main evaluation.

    `sets`: further evaluation sets, on which every effect is measured. `systems`: system prompts by name, under each
    of which the sets `under_systems` (name -> a kind in EFFECTS) are answered with the effects of their kind.
    """
    asked = [(name, "", ALL_EFFECTS) for name in sets]
    asked += [(name, system, EFFECTS[kind]) for system in systems for name, kind in under_systems.items()]
    found = []
    for kind, system, effects in asked:
        found.append(Condition(Label(kind, BASELINE, system=system), None))
        found += [Condition(Label(kind, name, system=system), chosen[name]) for name in effects if name in chosen]
    return found


def strength(effect: str, baseline: float, value: float) -> float:
    """Size of an effect on a refusal score or metric, larger is stronger: a fall, or for addition a rise."""
    return value - baseline if effect == "addition" else baseline - value


def sources_of(names: Sequence[str], effect: str) -> list[str]:
    """Sources that were measured under an effect, in the order of the names."""
    return [label.source for label in map(Label.parse, names) if label.effect == effect]
