"""What an intervention does to task scores, item by item, and whether an export answers as the live model does."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.maths import statistics
from pipeline.maths.comparisons import ALPHA, Comparison, compare, compare_control, holm, smallest_mean_change
from pipeline.maths.labels import Treatment
from pipeline.maths.statistics import Estimate

BASELINE, LIVE, EXPORT = "baseline", "ablation", "export"
Values = Mapping[str, float]  # the metric of each item, by its id
GRADED = "graded metric: interval of the mean, no test"


@dataclass(frozen=True)
class Answer:
    """One item's metric, its answer and the log-likelihood of each choice (nats; none for generated text)."""

    value: float
    answer: int | str | bool
    log_likelihoods: Sequence[float] = ()


@dataclass(frozen=True)
class SameItems:
    """Two runs on the same items: how many answers and metric values differ, out of `n`.

    `difference_max`: the largest difference of a log-likelihood between the two; `effect_max`: the same
    between the first run and the unchanged model, what there was to agree about. None for generated text.
    """

    n: int
    different_answers: int
    different_values: int
    difference_max: float | None
    effect_max: float | None


Answers = Mapping[str, Answer]


def summary(tasks: Mapping[str, Mapping[str, Answers]]) -> dict[str, dict[str, Any]]:
    """Per task: score of each condition, its change against the baseline, and export against live ablation.

    `tasks`: answers by task and condition, `baseline` among them; every task has the same conditions.
    """
    if not tasks:
        return {}
    values = {
        task: {name: {key: answer.value for key, answer in rows.items()} for name, rows in conditions.items()}
        for task, conditions in tasks.items()
    }
    changed = changes(values)
    return {
        task: {
            "chance": chance(conditions[BASELINE]),
            "score": {name: asdict(score(rows)) for name, rows in values[task].items()},
            "change": {name: asdict(comparison) for name, comparison in changed[task].items()},
            "export_equals_ablation": asdict(agreement(*(conditions[name] for name in (LIVE, EXPORT, BASELINE))))
            if EXPORT in conditions
            else None,
        }
        for task, conditions in tasks.items()
    }


def chance(answers: Answers) -> float | None:
    """Share of right answers when each choice is as likely as the next; None where there are no choices.

    A task whose baseline is no better has nothing to lose, and its `no difference shown` says nothing.
    """
    counts = [len(answer.log_likelihoods) for answer in answers.values()]
    return sum(1 / count for count in counts) / len(counts) if min(counts) > 1 else None


def score(values: Values) -> Estimate:
    """Mean with a 95 % interval: Wilson where every item is right or wrong, else that of a mean."""
    rows = list(values.values())
    return statistics.rate([value == 1 for value in rows]) if _binary(values) else statistics.mean(rows)


def change(before: Values, after: Values, n_tasks: int = 1, is_control: bool = False) -> Comparison:
    """Paired change on the same items: McNemar's exact test, or for a graded metric an interval of the mean.

    `n_tasks`: how many are corrected together. Raises ValueError when the two are not the same items.
    """
    if before.keys() != after.keys():
        raise ValueError(f"{len(before)} and {len(after)} items are not the same ones")
    if _binary(before) and _binary(after):
        pair = _right(before), _right(after)
        return compare_control(*pair) if is_control else compare(*pair, level=ALPHA / n_tasks)
    differences = [after[key] - before[key] for key in before]
    moved = statistics.mean(differences)
    return Comparison(
        moved,
        gained=sum(row > 0 for row in differences),
        lost=sum(row < 0 for row in differences),
        p=None,
        detectable=smallest_mean_change(differences),
        verdict=_verdict(moved),
        note=GRADED,
    )


def changes(tasks: Mapping[str, Mapping[str, Values]]) -> dict[str, dict[str, Comparison]]:
    """Per task and condition the change against `baseline`; Holm's correction over the tasks of a condition.

    Of a control no correction is made. `tasks`: values by task and condition; every task has the same conditions.
    """
    by_task: dict[str, dict[str, Comparison]] = {name: {} for name in tasks}
    conditions = [key for key in next(iter(tasks.values())) if key != BASELINE]
    for condition in conditions:
        control = bool(Treatment.parse(condition).source)
        family = {name: change(rows[BASELINE], rows[condition], len(tasks), control) for name, rows in tasks.items()}
        for name, comparison in (family if control else holm(family)).items():
            by_task[name][condition] = comparison
    return by_task


def agreement(live: Answers, export: Answers, baseline: Answers) -> SameItems:
    """Item by item comparison of an export with the live intervention. Raises ValueError for other items."""
    if not live.keys() == export.keys() == baseline.keys():
        raise ValueError("the runs do not have the same items")
    return SameItems(
        n=len(live),
        different_answers=sum(live[key].answer != export[key].answer for key in live),
        different_values=sum(live[key].value != export[key].value for key in live),
        difference_max=_largest_difference(live, export),
        effect_max=_largest_difference(live, baseline),
    )


def _largest_difference(first: Answers, second: Answers) -> float | None:
    pairs = [(first[key].log_likelihoods, second[key].log_likelihoods) for key in first]
    return max((abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True)), default=None)


def _right(values: Values) -> dict[str, bool]:
    return {key: value == 1 for key, value in values.items()}


def _binary(values: Values) -> bool:
    return all(value in (0, 1) for value in values.values())


def _verdict(moved: Estimate) -> str:
    if moved.low is None or moved.value is None:
        return "not testable"
    if moved.holds(0.0):
        return "no difference shown"
    return "higher" if moved.value > 0 else "lower"
