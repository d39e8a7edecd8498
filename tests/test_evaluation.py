"""From verdicts to tables: names, ranks, families of tests, controls that moved, refusal tokens."""

import dataclasses

import pytest
import torch

from pipeline.maths import evaluation
from pipeline.maths.experiment import Condition, conditions, interventions
from pipeline.maths.labels import Label, strength
from pipeline.maths.refusal_tokens import best_cutoff, caught, find_refusal_tokens
from pipeline.maths.selection import PromptScores


def verdicts(refused: int, n: int = 100) -> dict[str, bool | None]:
    return {str(i): i < refused for i in range(n)}


OUTCOMES = {
    "harmful_baseline": verdicts(50),
    "harmful_ablation": verdicts(2),
    "harmful_ablation.random_0": verdicts(48),
    "harmful_ablation.shuffled_0": verdicts(20),
    "harmful_ablation.layer_4": verdicts(1),
    "harmful_ablation.leace": verdicts(30),
    "harmless_baseline": verdicts(5),
    "harmless_addition": verdicts(80),
    "harmless_addition.random_0": verdicts(6),
    "harmless_addition.leace": verdicts(79),
}


@pytest.mark.parametrize("name", OUTCOMES)
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


def test_ranks_are_among_null_controls_alone():
    scores = evaluation.refusal_scores(OUTCOMES)
    assert scores["harmful_ablation"]["rank"] == {"rank": 1, "n": 2, "p": pytest.approx(1 / 3)}
    assert scores["harmless_addition"]["rank"]["rank"] == 1
    assert scores["harmful_baseline"]["rank"] is None
    assert scores["harmful_ablation.layer_4"]["rank"] is None
    stronger = {**OUTCOMES, "harmful_ablation.random_0": verdicts(1)}
    assert evaluation.refusal_scores(stronger)["harmful_ablation"]["rank"]["rank"] == 2


def test_a_condition_without_verdicts_has_no_rate():
    scores = evaluation.refusal_scores({"harmful_baseline": {"a": None, "b": None}, "harmless_baseline": verdicts(1)})
    assert set(scores) == {"harmless_baseline"}


def test_each_family_is_corrected_by_itself():
    found = evaluation.comparisons(OUTCOMES)
    assert "harmful_baseline" not in found
    controls = [found[f"harmful_ablation.{name}"] for name in ("shuffled_0", "layer_4")]
    assert all(row.p is not None and row.p_holm is not None and row.p_holm >= 3 * row.p for row in controls)
    assert found["harmful_ablation"].verdict == "lower"
    assert found["harmless_addition"].verdict == "higher"
    assert found["harmful_ablation.random_0"].verdict == "no difference shown"
    alone = evaluation.comparisons({name: OUTCOMES[name] for name in ("harmful_baseline", "harmful_ablation")})
    assert alone["harmful_ablation"].p_holm == alone["harmful_ablation"].p


def test_a_model_with_too_few_refusals_gets_a_verdict_and_no_p_value():
    rare = {"harmful_baseline": verdicts(4), "harmful_ablation": verdicts(0), "harmful_ablation.random_0": verdicts(3)}
    found = evaluation.comparisons(rare)
    assert (found["harmful_ablation"].p, found["harmful_ablation"].verdict) == (None, "not testable")
    assert "too few refusals for a claim" in found["harmful_ablation"].note
    assert found["harmful_ablation.random_0"].p is not None, "a control is said to do nothing"


def test_null_controls_that_leave_the_baselines_interval_are_named():
    scores = evaluation.refusal_scores(OUTCOMES)
    assert evaluation.moved_controls(scores) == ["harmful_ablation.shuffled_0"]


def test_estimators_are_held_against_the_difference_in_means():
    chosen = {"mean_difference": True, "leace": True, "logistic_probe": False}
    found = evaluation.estimator_comparisons(OUTCOMES, chosen, same=True)
    assert set(found) == {"leace"}
    assert found["leace"]["ablation"].verdict == "higher"
    assert (found["leace"]["ablation"].gained, found["leace"]["ablation"].lost) == (28, 0)
    assert found["leace"]["addition"].verdict == "no difference shown"
    assert evaluation.estimator_comparisons(OUTCOMES, {"mean_difference": False, "leace": True}, same=False) == {}


def test_agreement_leaves_out_what_a_judge_does_not_know():
    first = {"harmful_baseline": {"a": True, "b": False, "c": None, "d": True}}
    second = {"harmful_baseline": {"a": True, "b": True, "c": True, "d": False}}
    row = evaluation.agreement({"x": first, "y": second})["x and y"]["harmful_baseline"]
    assert row["equal"]["n"] == 3
    assert (row["only_x"], row["only_y"]) == (1, 1)


def test_val_scores_are_ranked_by_their_change():
    chosen = PromptScores((-5.0, -4.0) * 5, (1.0, 2.0) * 5, (0.1, 0.2) * 5)
    weak = PromptScores((1.9, 2.0) * 5, (-3.0, -4.0) * 5, (0.01, 0.02) * 5)
    found = evaluation.val_scores(chosen, {"random_0": weak, "layer_1": chosen}, [2.0, 2.5] * 5, [-4.0, -3.5] * 5, 0)
    assert {name: found[name]["rank"] for name in ("bypass", "induce", "kl")} == {
        name: {"rank": 1, "n": 1, "p": 0.5} for name in ("bypass", "induce", "kl")
    }
    assert found["bypass"]["change"]["value"] == pytest.approx(-6.75)
    assert found["kl"]["direction"]["value"] == pytest.approx(0.15)
    assert found["kl"]["direction"]["low"] < 0.15 < found["kl"]["direction"]["high"]


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
    row = dataclasses.asdict(evaluation.comparisons(OUTCOMES)["harmful_ablation"])
    assert row["change"]["value"] == pytest.approx(-0.48)
