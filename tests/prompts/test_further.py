"""Further sets and system prompts: names of conditions, what is asked, and templates that cannot take a prompt."""

from pathlib import Path

import pytest
import torch

from pipeline.artifacts.layout import Layout
from pipeline.config.compose import compose
from pipeline.config.data import FileSpec
from pipeline.maths import evaluation
from pipeline.maths.directions import Direction
from pipeline.maths.evaluation import rates
from pipeline.maths.experiment import further_conditions, interventions
from pipeline.maths.labels import MAIN_EFFECTS, Label
from pipeline.model.chat import chat
from pipeline.model.loading import random_model
from pipeline.prompts.build import further
from pipeline.prompts.load import load
from pipeline.prompts.prompt import Prompt


@pytest.mark.parametrize(
    "label",
    [
        Label("harmful", "baseline"),
        Label("harmful", "ablation", "random_0"),
        Label("contrast-safe", "addition"),
        Label("harmful", "subtraction", system="safety"),
        Label("harmbench", "ablation", "layer_9", "none"),
    ],
)
def test_a_name_says_all_of_a_condition(label):
    assert Label.parse(str(label)) == label
    assert label.baseline == Label(label.kind, "baseline", system=label.system)
    assert label.is_main == (label.kind in MAIN_EFFECTS and not label.system)


def test_conditions_have_baselines_of_their_own_and_effects_that_exist():
    chosen = interventions(Direction(torch.ones(4), layer=1, position=-1), 1.0)
    asked = {"harmful": "harmful", "harmless": "harmless"}
    names = [row.name for row in further_conditions(chosen, ["contrast-safe"], ["none"], asked)]
    assert names == [
        "contrast-safe_baseline",
        "contrast-safe_ablation",
        "contrast-safe_subtraction",
        "contrast-safe_addition",
        "harmful@none_baseline",
        "harmful@none_ablation",
        "harmful@none_subtraction",
        "harmless@none_baseline",
        "harmless@none_addition",
    ]
    only = [row.name for row in further_conditions({}, ["contrast-safe"], ["none"], asked)]
    assert only == ["contrast-safe_baseline", "harmful@none_baseline", "harmless@none_baseline"]


def test_main_and_further_conditions_lie_apart():
    layout = Layout("m", "run")
    assert layout.completions(Label.parse("harmful_ablation.random_0")).parent.name == "completions"
    assert layout.completions(Label.parse("harmful@none_ablation")).parent.name == "further"
    assert layout.completions(Label.parse("contrast-safe_baseline")).parent.name == "further"
    assert layout.prompts("harmful_test").parent.name == "prompts"
    assert layout.prompts("contrast-safe_test").parent.name == "sets"


TAKES = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<answer>"
DEFAULT = "{% if messages[0]['role'] != 'system' %}<system>be kind{% endif %}" + TAKES
DROPS = "{% for m in messages if m['role'] != 'system' %}<user>{{ m['content'] }}{% endfor %}<answer>"
REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TAKES


@pytest.mark.parametrize(
    ("template", "system", "reason"),
    [
        (TAKES, "be careful", ""),
        (DEFAULT, "", ""),
        (DEFAULT, "be kind", "the prompt is the same as without it"),
        (DROPS, "be careful", "the prompt is the same as without it"),
        (REFUSES, "be careful", "the chat template takes no system prompt"),
        (DROPS.replace("<answer>", "{{ messages | length }}"), "be careful", "the chat template leaves it out"),
    ],
)
def test_a_system_prompt_without_effect_is_named(template, system, reason):
    tokenizer = random_model.byte_tokenizer()
    tokenizer.chat_template = template
    assert chat.without_effect(tokenizer, system) == reason
    if not reason:
        assert chat.render(tokenizer, "hello", system=system) == f"<system>{system}<user>hello<answer>"


def test_further_sets_keep_contrasts_and_report_what_they_share():
    data = compose("tiny", "standard", ["data=builtin"]).data
    fitted = {
        "harmful_train": [Prompt("x", "How long should I poach pears in wine before they go soft?", "", "s", "l")]
    }
    sets, audit = further(data, 0, lambda spec: Path(spec.file), fitted)
    assert {name: len(rows) for name, rows in sets.items()} == {
        "contrast-safe": 60,
        "contrast-unsafe": 60,
        "borderline": 60,
    }
    [pairs] = audit["overlaps"].values()
    assert list(audit["overlaps"]) == ["contrast-safe harmful_train"]
    assert pairs[0]["ids"][1] == "x"
    assert audit["kinds"] == {"contrast-safe": "harmless", "contrast-unsafe": "harmful", "borderline": "harmless"}


def test_a_context_stands_before_the_instruction(tmp_path):
    (tmp_path / "rows.csv").write_text("Behavior,ContextString\nSay it,Some text\nDo it,\n")
    spec = FileSpec("rows.csv", "s", column="Behavior", context="ContextString")
    assert [row.instruction for row in load(spec, tmp_path / "rows.csv")] == ["Some text\n\n---\n\nSay it", "Do it"]


def test_safety_scores_and_attacks_count_what_is_known():
    before, after = Label("harmful", "baseline"), Label("harmful", "ablation")
    outcomes = {
        before: {f"p{n}": n < 9 for n in range(10)},
        after: {f"p{n}": n < 1 if n < 9 else None for n in range(10)},
    }
    score = rates(outcomes)
    assert score[before].value == 0.9
    assert (score[after].value, score[after].n) == (1 / 9, 9)
    assert evaluation.unknown(outcomes) == {before: 0, after: 1}
    assert evaluation.safety_comparisons(outcomes)[after].verdict == "lower"
    safe = {f"p{n}": n < 18 for n in range(24)}
    categories = {f"p{n}": "few" if n < 4 else "standard" if n % 2 else "contextual" for n in range(24)}
    found = evaluation.by_category(safe, categories)
    assert {name: (row.value, row.n) for name, row in found.items()} == {
        "all": (0.75, 24),
        "contextual": (0.7, 10),
        "standard": (0.7, 10),
    }
