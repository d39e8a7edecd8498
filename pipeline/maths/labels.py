"""What the conditions of the experiment are called, and what their names say: plain values, no library."""

from dataclasses import dataclass

# What an effect is measured on: prompts that a model should refuse, and prompts that it should answer.
MAIN_EFFECTS = {"harmful": ("ablation", "subtraction"), "harmless": ("addition",)}
BASELINE = "baseline"
EFFECTS = (BASELINE, "ablation", "subtraction", "addition")
ON_TREATED = (*EFFECTS, "export")


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
    def baseline(self) -> "Label":
        """The condition that this one is compared with."""
        return Label(self.kind, BASELINE, system=self.system)

    @property
    def prompt_set(self) -> str:
        """The prompts it is measured on."""
        return f"{self.kind}_test"

    @property
    def is_main(self) -> bool:
        """Measured on the harmful or harmless evaluation prompts as the chat template writes them."""
        return self.kind in MAIN_EFFECTS and not self.system


@dataclass(frozen=True)
class Treatment:
    """What was done to a model whose losses or task scores were measured: `effect` of `source` ("" is the direction).

    `effect` is baseline, ablation, subtraction, addition or export, the orthogonalised weights.
    """

    effect: str
    source: str = ""

    @classmethod
    def parse(cls, name: str) -> "Treatment":
        """The inverse of `str(treatment)`: effect, or effect.source."""
        effect, _, source = name.partition(".")
        return cls(effect, source)

    def __str__(self) -> str:
        return self.effect + (f".{self.source}" if self.source else "")


def strength(effect: str, baseline: float, value: float) -> float:
    """Size of an effect on a refusal score or metric, larger is stronger: a fall, or for addition a rise."""
    return value - baseline if effect == "addition" else baseline - value


CONTROLS = ("random", "covariance", "shuffled", "layer")  # kinds of sources that effects are held against


def control_kind(source: str) -> str:
    """One of CONTROLS: random of `random_0`, layer of `layer_9`; empty for the direction and an estimator."""
    kind = source.partition("_")[0]
    return kind if kind in CONTROLS else ""


def is_null(source: str) -> bool:
    """A control that should do nothing; another layer's direction may do much."""
    return control_kind(source) != "layer"
