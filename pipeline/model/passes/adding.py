"""What estimators' findings do on prompts that chose none of them: ablated, and added on equal terms."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.maths.equal_terms import Coefficient, Entrant, coefficient_of_kl, coefficient_of_norm, mean_length
from pipeline.maths.interventions import Intervention
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import scoring
from pipeline.names import EQUAL_KL, EQUAL_NORM, MEAN_DIFFERENCE, OWN_LENGTH
from pipeline.progress import Bar

PLANNED = 8  # additions of an estimator, as the bar expects them: how many an equal KL takes is not known before


@dataclass(frozen=True)
class Added:
    """One addition: refusal metric and KL(baseline || added) of each harmless prompt, nats.

    `length`: `mean_length` of what is added. Without a coefficient there is nothing but `note`, which says why.
    """

    coefficient: float | None
    length: float | None
    metric: tuple[float, ...]
    kl: tuple[float, ...]
    note: str = ""


@dataclass(frozen=True)
class Tested:
    """An estimator's effects prompt by prompt, nats.

    `bypass` and `kl`: refusal metric of harmful prompts and KL(baseline || ablated) of harmless ones under ablation;
    `added`: additions, by which of TERMS is equal.
    """

    bypass: tuple[float, ...]
    kl: tuple[float, ...]
    added: Mapping[str, Added]


@dataclass(frozen=True, eq=False)
class _Trial:
    """One estimator's finding on the prompts; each addition is measured once."""

    model: ChatModel
    entrant: Entrant
    prompts: scoring.Validation
    max_tokens: int
    bar: Bar
    made: dict[float, Added] = field(default_factory=dict[float, Added])

    def ablated(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        n, every = self.prompts.n_harmful, range(len(self.prompts.split.rests))
        rows = self._read(_changes(self.entrant, 1.0)["ablation"], every)
        return tuple(metric for metric, _ in rows[:n]), tuple(kl for _, kl in rows[n:])

    def added(self, coefficient: float) -> Added:
        if coefficient not in self.made:
            harmless = range(self.prompts.n_harmful, len(self.prompts.split.rests))
            rows = self._read(_changes(self.entrant, coefficient)["addition"], harmless)
            metric, kl = zip(*rows, strict=True)
            self.made[coefficient] = Added(coefficient, mean_length(self.entrant, coefficient), metric, kl)
        return self.made[coefficient]

    def kl(self, coefficient: float) -> float:
        rows = self.added(coefficient).kl
        return math.fsum(rows) / len(rows)

    def of(self, found: Coefficient) -> Added:
        return Added(None, None, (), (), found.note) if found.value is None else self.added(found.value)

    def _read(self, change: Intervention, prompts: Sequence[int]) -> list[tuple[float, float]]:
        return scoring.read_each(self.model, change, prompts, self.prompts, self.max_tokens, self.bar)


def on_equal_terms(
    model: ChatModel, entrants: Mapping[str, Entrant], prompts: scoring.Validation, max_tokens: int, bar: Bar
) -> Iterator[tuple[str, Tested]]:
    """Each estimator, the difference in means first: others are added until their KL is that of its addition.

    That coefficient is found on the very prompts on which it is measured, by their KL alone, never by their metric.
    `bar`: by tokens, of which `planned_tokens` are expected.
    """
    target: float | None = None
    work = scoring.Work(model, prompts.split, prompts.n_harmful)
    for name in sorted(entrants, key=lambda name: name != MEAN_DIFFERENCE):
        bar.step(f"{name} on test prompts")
        entrant = entrants[name]
        trial = _Trial(model, entrant, prompts, max_tokens, bar)
        target = trial.kl(1.0) if name == MEAN_DIFFERENCE else target
        found = {
            OWN_LENGTH: Coefficient(1.0),
            EQUAL_NORM: coefficient_of_norm(entrant),
            EQUAL_KL: Coefficient(None, "there is no difference in means to compare with")
            if target is None
            else coefficient_of_kl(trial.kl, target),
        }
        yield name, Tested(*trial.ablated(), {terms: trial.of(each) for terms, each in found.items()})
        bar.total(bar.whole + (len(trial.made) - PLANNED) * _addition_tokens(work, entrant))


def planned_tokens(work: scoring.Work, entrants: Mapping[str, Entrant]) -> float:
    """Tokens that `on_equal_terms` is expected to run."""
    ablations = [_changes(entrant, 1.0)["ablation"] for entrant in entrants.values()]
    ablated = sum(work.interventions([ablation], []) for ablation in ablations)
    return ablated + PLANNED * sum(_addition_tokens(work, entrant) for entrant in entrants.values())


def _addition_tokens(work: scoring.Work, entrant: Entrant) -> float:
    return work.interventions([], [_changes(entrant, 1.0)["addition"]])


def _changes(entrant: Entrant, coefficient: float) -> dict[str, Intervention]:
    position, layer = entrant.place
    return entrant.finding.interventions(layer, position, coefficient)
