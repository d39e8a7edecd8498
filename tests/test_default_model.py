"""The default model for real: activations, and the committed results that the README shows."""

import functools

import pytest
import torch
from omegaconf import OmegaConf
from torch.testing import assert_close

from pipeline.artifacts.files import read_json
from pipeline.artifacts.layout import Layout
from pipeline.config.compose import compose
from pipeline.config.schema import Config
from pipeline.maths.directions import Direction
from pipeline.model import chat, scoring, tracing
from pipeline.stages.models import open_model
from tests.conftest import INSTRUCTIONS, ROOT

NAME = "qwen2_5_coder_0_5b"


@pytest.fixture(scope="module")
def metrics():
    return read_json(Layout(NAME, ROOT).metrics)


def test_ablation_removes_refusal_and_addition_induces_it(metrics):
    score = metrics["refusal_score"]
    before, ablated = score["harmful_baseline"], score["harmful_ablation"]
    assert ablated["value"] <= before["value"] / 4
    assert ablated["high"] < before["low"]
    plain, added = score["harmless_baseline"], score["harmless_addition"]
    assert added["value"] >= 3 * plain["value"]
    assert added["low"] > plain["high"]


def test_a_random_direction_does_neither(metrics):
    score = metrics["refusal_score"]
    for kind, name in (
        ("harmful", "random_ablation"),
        ("harmful", "random_subtraction"),
        ("harmless", "random_addition"),
    ):
        baseline, control = score[f"{kind}_baseline"], score[f"{kind}_{name}"]
        assert baseline["low"] <= control["value"] <= baseline["high"]


def test_the_export_is_the_live_ablation(metrics):
    export = metrics["export"]
    assert export["n_prompts"] >= 20
    assert export["n_tokens"] >= 32
    assert export["greedy_different"] == 0
    assert max(export["max_cosine_after"]) < 1e-5 < max(export["max_cosine_before"])


def test_the_prompts_do_not_tell_the_classes_apart_by_form(metrics):
    assert all(part["value"] < 0.65 for part in metrics["prompts"]["surface_auroc"].values())


@pytest.mark.slow
def test_weights_on_disk_give_the_same_means_and_scores(tmp_path):
    config = OmegaConf.to_object(compose(NAME, "quick", []))
    assert isinstance(config, Config)
    found = []
    for limits in ({}, {"cpu": 0.8}):
        config.memory.limits, config.memory.offload_folder = limits, str(tmp_path)
        model = open_model(config)
        on_disk = sum(parameter.numel() for parameter in model.hf.parameters() if parameter.is_meta)
        assert bool(on_disk) == bool(limits)
        prompts = model.encode(INSTRUCTIONS)
        n = len(model.post_instruction)
        moments, _ = tracing.resid_pre_moments(model, prompts, n, config.engine.max_batch_tokens)
        candidate = Direction(moments.mean[-1, 12], 12, -1)
        tokens = chat.single_token_ids(model.tokenizer, config.model.family.refusal_tokens)
        validation = scoring.prepare(model, prompts[:2], prompts[2:], tokens, 900)
        found.append((moments, scoring.score(model, candidate, validation, 1.0, 900)))
    (moments, score), (offloaded, offloaded_score) = found
    assert torch.equal(moments.mean, offloaded.mean)
    assert score == offloaded_score


@pytest.mark.slow
def test_activations_equal_hidden_states_and_do_not_depend_on_padding():
    config = OmegaConf.to_object(compose(NAME, "quick", []))
    assert isinstance(config, Config)
    model = open_model(config, dtype="float32")
    prompts = chat.encode(model.tokenizer, INSTRUCTIONS)
    n = len(model.post_instruction)
    ours = tracing.resid_pre(model, prompts, n)
    padded = chat.pad_left(prompts, model.pad_id)
    with torch.inference_mode():
        hidden = model.hf(
            input_ids=padded.input_ids,
            attention_mask=padded.attention_mask,
            position_ids=padded.position_ids,
            output_hidden_states=True,
        ).hidden_states
    assert torch.equal(ours, torch.stack(hidden[:-1], dim=2)[:, -n:])
    # resid_pre reaches some thousands in single coordinates; float32 keeps seven digits of each sum.
    near = functools.partial(assert_close, atol=5e-3, rtol=1e-3)
    near(tracing.resid_pre(model, [prompts[1]], n)[0], ours[1])
    assert chat.decode(model.tokenizer, prompts[0]) == chat.render(model.tokenizer, INSTRUCTIONS[0]), "no second BOS"
