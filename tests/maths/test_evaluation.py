"""From verdicts to tables: names, ranks, families of tests, controls that moved, refusal tokens."""

import dataclasses

import pytest
import torch

from pipeline.maths import evaluation
from pipeline.maths.comparisons import Rank
from pipeline.maths.evaluation import rates
from pipeline.maths.experiment import Condition, conditions, interventions
from pipeline.maths.labels import Label, strength
from pipeline.maths.refusal_tokens import best_cutoff, caught, find_refusal_tokens


def verdicts(refused: int, n: int = 100) -> dict[str, bool | None]:
    return {str(i): i < refused for i in range(n)}


NAMED = {
    "harmful_baseline": verdicts(50),
    "harmful_ablation": verdicts(2),
    "harmful_ablation.random_0": verdicts(48),
    "harmful_ablation.shuffled_0": verdicts(20),
    "harmful_ablation.covariance_0": verdicts(49),
    "harmful_ablation.layer_4": verdicts(1),
    "harmful_ablation.leace": verdicts(30),
    "harmless_baseline": verdicts(5),
    "harmless_addition": verdicts(80),
    "harmless_addition.random_0": verdicts(6),
    "harmless_addition.leace": verdicts(79),
}
OUTCOMES = {Label.parse(name): rows for name, rows in NAMED.items()}
ABLATED, ADDED = Label("harmful", "ablation"), Label("harmless", "addition")
HARMFUL, HARMLESS = Label("harmful", "baseline"), Label("harmless", "baseline")


@pytest.mark.parametrize("name", NAMED)
def test_names_say_what_they_are(name):
    assert str(Label.parse(name)) == name


def test_conditions_follow_from_the_sources(direction):
    effects = interventions(direction, 1.0)
    found = conditions({"": effects, "leace": {"ablation": effects["ablation"], "addition": effects["addition"]}})
    assert [condition.name for condition in found] == [
        "harmful_baseline",
        "harmless_baseline",
        "harmful_ablation",
        "harmful_subtraction",
        "harmless_addition",
        "harmful_ablation.leace",
        "harmless_addition.leace",
    ]
    assert conditions({}) == [
        Condition(Label("harmful", "baseline"), None),
        Condition(Label("harmless", "baseline"), None),
    ]
    assert {condition.label.prompt_set for condition in found} == {"harmful_test", "harmless_test"}


def of(source: str) -> Label:
    return Label("harmful", "ablation", source)


def test_rates_are_ranked_among_random_directions_that_are_enough():
    many = {**OUTCOMES, **{of(f"random_{index}"): verdicts(47) for index in range(19)}}
    scores = rates(many)
    assert scores[ABLATED].rank == Rank(1, 19, 1 / 20)
    assert scores[ADDED].rank is None, "one random direction was added"
    assert scores[HARMFUL].rank is None
    assert scores[of("layer_4")].rank is None
    assert rates({**many, of("random_3"): verdicts(1)})[ABLATED].rank == Rank(2, 19, 2 / 20)
    assert rates(OUTCOMES)[ABLATED].rank is None


def test_a_condition_without_verdicts_has_no_rate():
    assert set(rates({HARMFUL: {"a": None, "b": None}, HARMLESS: verdicts(1)})) == {HARMLESS}


def test_each_family_is_corrected_by_itself():
    found = evaluation.comparisons(OUTCOMES)
    assert HARMFUL not in found
    smaller = min((found[ABLATED], found[ADDED]), key=lambda row: row.p or 1.0)
    assert smaller.p_holm == pytest.approx(2 * (smaller.p or 0))
    controls = [row for label, row in found.items() if evaluation.is_control(label.source)]
    assert len(controls) == 5
    assert all(row.p is not None and row.p_holm is None for row in controls), "correction would clear them"
    assert found[of("shuffled_0")].verdict == found[of("layer_4")].verdict == "lower"
    assert found[ABLATED].verdict == "lower"
    assert found[ADDED].verdict == "higher"
    assert found[of("random_0")].verdict == "no difference shown"
    alone = evaluation.comparisons({label: OUTCOMES[label] for label in (HARMFUL, ABLATED)})
    assert alone[ABLATED].p_holm == alone[ABLATED].p


def test_a_model_with_too_few_refusals_gets_a_verdict_and_no_p_value():
    found = evaluation.comparisons({HARMFUL: verdicts(4), ABLATED: verdicts(0), of("random_0"): verdicts(3)})
    assert (found[ABLATED].p, found[ABLATED].verdict) == (None, "not testable")
    assert "too few refusals for a claim" in found[ABLATED].note
    assert found[of("random_0")].p is not None, "a control is said to do nothing"


def test_null_controls_whose_paired_interval_leaves_out_0_are_named():
    found = evaluation.comparisons(OUTCOMES)
    assert evaluation.moved_controls(found) == [of("shuffled_0")]
    assert evaluation.nulls_held(found) == 4
    slightly = {**OUTCOMES, of("random_0"): verdicts(43)}
    assert rates(slightly)[HARMFUL].holds(0.43), "inside of the baseline's own interval"
    moved = evaluation.comparisons(slightly)
    assert (moved[of("random_0")].change.high or 0) < 0
    assert evaluation.moved_controls(moved) == [of("random_0"), of("shuffled_0")]


def test_estimators_are_held_against_the_difference_in_means():
    chosen = {"mean_difference": True, "leace": True, "logistic_probe": False}
    found = evaluation.estimator_comparisons(OUTCOMES, chosen, same=True)
    assert set(found) == {"leace"}
    assert found["leace"]["ablation"].verdict == "higher"
    assert (found["leace"]["ablation"].gained, found["leace"]["ablation"].lost) == (28, 0)
    assert found["leace"]["addition"].verdict == "no difference shown"
    assert evaluation.estimator_comparisons(OUTCOMES, {"mean_difference": False, "leace": True}, same=False) == {}


def test_agreement_leaves_out_what_a_judge_does_not_know():
    first = {HARMFUL: {"a": True, "b": False, "c": None, "d": True}}
    second = {HARMFUL: {"a": True, "b": True, "c": True, "d": False}}
    row = evaluation.agreement({"x": first, "y": second})["x and y"][HARMFUL]
    assert row.equal.n == 3
    assert row.only == {"x": 1, "y": 1}


def test_strength_is_a_fall_or_for_addition_a_rise():
    assert strength("ablation", 0.5, 0.1) == pytest.approx(0.4)
    assert strength("addition", 0.1, 0.5) == pytest.approx(0.4)


def _logits(rows):
    return torch.log(torch.tensor(rows))


def test_refusal_tokens_are_those_that_begin_refusals_and_tell_them_apart():
    # Tokens: 0 "I", 1 "Sorry", 2 "Sure", 3 the rest. Refusals begin with 0 or 1; 2 begins both kinds.
    refusals = [[0.75, 0.05, 0.1, 0.1]] * 5 + [[0.05, 0.6, 0.25, 0.1]] * 4 + [[0.1, 0.1, 0.7, 0.1]] * 2
    answers = [[0.1, 0.05, 0.75, 0.1]] * 9 + [[0.3, 0.05, 0.05, 0.6]] * 2
    first = [0] * 5 + [1] * 4 + [2] * 2 + [2] * 9 + [3] * 2
    found = find_refusal_tokens(_logits(refusals + answers), first, [True] * 11 + [False] * 11)
    assert set(found) == {0, 1}


def test_no_tokens_are_found_without_both_classes_or_for_chance_beginnings():
    logits = _logits([[0.7, 0.3]] * 4)
    assert find_refusal_tokens(logits, [0] * 4, [True] * 4) == []
    assert find_refusal_tokens(logits, [0, 1, 1, 1], [True, False, False, False]) == []


def test_the_cutoff_separates_best_and_lies_near_zero():
    metric, refused = [-3.0, -2.0, -1.0, 0.5, 2.0], [False, False, True, True, True]
    cut = best_cutoff(metric, refused)
    assert cut == -1.5
    assert caught(metric, refused) == {"refused": 3, "refused_above": 2, "answered": 2, "answered_above": 0}
    assert caught(metric, refused, cut)["refused_above"] == 3


def test_comparisons_are_plain_values():
    row = dataclasses.asdict(evaluation.comparisons(OUTCOMES)[ABLATED])
    assert row["change"]["value"] == pytest.approx(-0.48)
