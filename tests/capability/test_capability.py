"""Capability tasks: the harness hears interventions, the export answers as the live ablation, mistakes are one line."""

import json
import socket
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from pipeline.capability import maths as maths
from pipeline.capability.maths import Answer
from pipeline.capability.model import Task, run
from pipeline.capability.questions import find_files, read_questions
from pipeline.errors import UserError
from pipeline.export.model.surgery import orthogonalize_weights, untie
from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition, DirectionalAblation
from pipeline.model.passes.intervene import intervene
from tests.conftest import ROOT

ROWS = [json.loads(line) for line in (ROOT / "tests/data/toy_sequences.jsonl").read_text().splitlines()]
METRICS = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
OPTIONS = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{ question }}",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": METRICS,
}
TASK = Task("toy", "toy", "acc", OPTIONS, ROWS)
GENERATED = {
    "output_type": "generate_until",
    "doc_to_text": "{{ question }}",
    "doc_to_target": "{{ choices[answer] }}",
    "generation_kwargs": {"until": ["never"], "max_gen_toks": 8, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def ask(model, task=TASK, limit=None, seed=0):
    return run(model, task, limit, seed, 4, "test")


def largest_difference(first, second):
    return max(
        abs(a - b)
        for key in first.answers
        for a, b in zip(first.answers[key].log_likelihoods, second.answers[key].log_likelihoods, strict=True)
    )


def test_log_likelihoods_are_those_of_the_model_itself(model):
    result = ask(model, limit=3)
    for key, answer in result.answers.items():
        row = ROWS[int(key.rpartition("/")[2])]
        for choice, found in zip(row["choices"], answer.log_likelihoods, strict=True):
            context, whole = (
                model.tokenizer(text, add_special_tokens=True).input_ids
                for text in (row["question"], f"{row['question']} {choice}")
            )
            logits = model.hf(torch.tensor([whole])).logits[0].double().log_softmax(-1)
            expected = sum(float(logits[i - 1, whole[i]]) for i in range(len(context), len(whole)))
            assert found == pytest.approx(expected, abs=1e-4)
        assert answer.value == float(int(np.argmax(answer.log_likelihoods)) == row["answer"])


def test_interventions_reach_the_harness_and_leave_nothing_behind(model, direction):
    before = ask(model)
    with intervene(model, DirectionalAblation(direction)):
        ablated = ask(model)
    with intervene(model, ActivationAddition(direction, 20.0)):
        added = ask(model)
    nothing = Direction(direction.vector, direction.layer, direction.position)
    with intervene(model, ActivationAddition(nothing, 0.0)):
        control = ask(model)
    assert largest_difference(before, ablated) > 1e-2
    assert largest_difference(before, added) > 1e-2
    assert largest_difference(before, control) == 0, "control: nothing added is nothing changed"
    assert ask(model) == before


def test_generated_text_feels_the_intervention_at_every_step(model, direction):
    task = Task("toy", "toy_text", "exact_match", GENERATED, ROWS)
    before = ask(model, task, limit=4)
    with intervene(model, ActivationAddition(direction, 50.0)):
        after = ask(model, task, limit=4)
    assert all(isinstance(answer.answer, str) and not answer.log_likelihoods for answer in before.answers.values())
    assert any(before.answers[key].answer != after.answers[key].answer for key in before.answers)


def test_the_export_answers_every_item_as_the_live_ablation(model, direction):
    before = ask(model)
    with intervene(model, DirectionalAblation(direction)):
        live = ask(model)
    generator = torch.Generator().manual_seed(9)
    other = Direction(torch.randn(32, generator=generator, dtype=torch.float64), 2, -1)
    with intervene(model, DirectionalAblation(other)):
        random = ask(model)
    untie(model)
    orthogonalize_weights(model, direction)
    export = ask(model)
    same = maths.agreement(live.answers, export.answers, before.answers)
    assert (same.n, same.different_answers, same.different_values) == (len(ROWS), 0, 0)
    assert same.difference_max is not None
    assert same.effect_max is not None
    assert same.difference_max < 1e-4 < 1e-2 < same.effect_max
    assert largest_difference(random, export) > 1e-2, "control: another direction is not the export's"


def test_questions_are_drawn_with_the_seed_and_scored_as_the_harness_scores(model):
    first, again, other = ask(model, limit=7), ask(model, limit=7), ask(model, limit=7, seed=1)
    assert first == again
    assert len(first.answers) == 7
    assert first.answers.keys() != other.answers.keys()
    assert first.value == pytest.approx(np.mean([answer.value for answer in first.answers.values()]))
    assert first.stderr == pytest.approx(
        np.std([answer.value for answer in first.answers.values()], ddof=1) / 7**0.5, abs=1e-9
    )
    assert len(ask(model, limit=1000).answers) == len(ROWS)


def test_options_are_merged_over_a_registered_task(model):
    rows = [{"query": f"Question: {row['question']}", "choices": row["choices"], "gold": row["answer"]} for row in ROWS]
    options = {
        "doc_to_text": "{{ query }}\nAnswer:",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "should_decontaminate": False,
    }
    result = ask(model, Task("arc", "arc_easy", "acc_norm", options, rows), limit=5)
    assert [key.split("/")[0] for key in result.answers] == ["arc_easy"] * 5


def test_labelled_choices_become_the_columns_that_truthfulqa_reads(model):
    rows = [{"question": "What is red?", "mc2_targets": {"blood": 1, "a brick": 1, "grass": 0}}] * 3
    result = ask(model, Task("truth", "truthfulqa_mc2", "acc", {}, rows))
    for answer in result.answers.values():
        weights = np.exp(answer.log_likelihoods)
        assert answer.value == pytest.approx(weights[:2].sum() / weights.sum())
        assert 0 < answer.value < 1


def test_local_tasks_open_no_connection(model, monkeypatch):
    def refuse(*_):
        raise AssertionError("a local task asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(ask(model, limit=2).answers) == 2


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task("x", "no_such_task", "acc", {}), "lm-eval has no task 'no_such_task'"),
        (Task("x", "toy", "f1", OPTIONS, ROWS), "has no metric 'f1,none': use one of acc,none"),
        (Task("x", "toy", "acc,strict", OPTIONS, ROWS), "has no metric 'acc,strict': use one of acc,none"),
        (Task("x", "toy", "acc", {**OPTIONS, "doc_to_text": "{{ nothing }}"}, ROWS), "'nothing' is undefined"),
        (Task("x", "toy", "acc", {**OPTIONS, "doc_to_txt": "a"}, ROWS), "doc_to_txt"),
        (Task("x", "toy", "acc", {**OPTIONS, "doc_to_target": "{{ 99 }}"}, ROWS), "task 'x'"),
    ],
)
def test_a_task_that_cannot_run_is_one_line(model, task, message):
    with pytest.raises(UserError) as caught:
        ask(model, task, limit=2)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_one_line_that_names_another_way(model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("pipeline.capability.model._quiet", lambda offline: __import__("contextlib").nullcontext())
    with pytest.raises(UserError, match="capability=builtin") as caught:
        ask(model, Task("arc", "arc_easy", "acc", {"dataset_path": "nobody/knows-this"}), limit=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [httpx2.ReadTimeout("the read\ntimed out"), ConnectionError("no way"), TimeoutError()]
)
def test_a_hub_that_fails_is_told_from_a_task_that_is_wrong(error, model, monkeypatch):
    def load(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("lm_eval.tasks.TaskManager.load", load)
    with pytest.raises(UserError, match="needs the hub, which cannot be reached") as caught:
        ask(model, Task("arc", "arc_easy", "acc", {}), limit=2)
    assert "\n" not in str(caught.value)


def test_missing_and_malformed_files_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no .*none\.jsonl: set capability\.folder"):
        find_files("x", tmp_path, "none.jsonl")
    for text, message in (("", "holds no rows"), ("[1, 2]\n", "holds no rows"), ("{", "is not JSON")):
        (tmp_path / "bad.jsonl").write_text(text)
        with pytest.raises(UserError, match=message):
            read_questions("x", tmp_path / "bad.jsonl")
    (tmp_path / "b.csv").write_text("question\nb\n")
    (tmp_path / "a.csv").write_text("question\na\n")
    rows = [row for path in find_files("x", tmp_path, "*.csv") for row in read_questions("x", path)]
    assert rows == [{"question": "a", "file": "a"}, {"question": "b", "file": "b"}]


def answers(values, likelihoods=((0.0, -1.0),)):
    return {str(i): Answer(value, int(value), likelihoods[i % len(likelihoods)]) for i, value in enumerate(values)}


def test_changes_are_mcnemars_with_holm_over_the_tasks_of_a_condition():
    lost = {"one": 9, "two": 7}
    tasks = {
        name: {"baseline": answers([1.0] * 30), "ablation": answers([0.0] * n + [1.0] * (30 - n))}
        for name, n in lost.items()
    }
    found = maths.summary(tasks)
    raw = [binomtest(0, n).pvalue for n in lost.values()]
    corrected: Any = multipletests(raw, method="holm")[1]
    for name, p, p_holm in zip(lost, raw, corrected, strict=True):
        row = found[name]["change"]["ablation"]
        assert (row["p"], row["p_holm"]) == (pytest.approx(p), pytest.approx(p_holm))
        assert (row["verdict"], row["lost"], row["gained"]) == ("lower", lost[name], 0)
        assert found[name]["export_equals_ablation"] is None
        assert found[name]["chance"] == 0.5


def test_a_graded_metric_has_a_bootstrap_interval_and_no_test():
    generator = np.random.default_rng(0)
    before = {str(i): float(x) for i, x in enumerate(generator.uniform(0.2, 0.8, 40))}
    graded = {str(i): i / 64 for i in range(1, 33)}
    shifted = maths.change(graded, {key: value + 0.25 for key, value in graded.items()})
    assert (shifted.verdict, shifted.p) == ("not testable", None), "a constant shift has no spread to resample"
    noisy = {key: value - 0.1 + float(generator.normal(0, 0.02)) for key, value in before.items()}
    assert maths.change(before, noisy).verdict == "lower"
    shuffled = dict(zip(before, generator.permutation(list(before.values())), strict=True))
    assert maths.change(before, {key: float(value) for key, value in shuffled.items()}).verdict == "no difference shown"
    with pytest.raises(ValueError, match="not the same"):
        maths.change(before, {"0": 1.0})


def test_agreement_counts_answers_and_values_that_differ():
    live, export = answers([1.0, 0.0, 1.0]), answers([1.0, 1.0, 1.0], ((0.0, -1.5),))
    found = maths.agreement(live, export, answers([1.0, 0.0, 1.0], ((0.0, -3.0),)))
    assert (found.n, found.different_answers, found.different_values) == (3, 1, 1)
    assert (found.difference_max, found.effect_max) == (0.5, 2.0)
    assert maths.chance({"0": Answer(1.0, "text")}) is None
