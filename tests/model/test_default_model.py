"""The default model for real: activations, weights on disk, and what loading leaves in its folder."""

import functools

import pytest
import torch
from omegaconf import OmegaConf
from torch.testing import assert_close

from pipeline.config.compose import compose
from pipeline.config.schema import Config
from pipeline.disk.files import read_json
from pipeline.entry.model import model_folder, open_model
from pipeline.maths.directions import Direction
from pipeline.model.chat import chat
from pipeline.model.loading.gguf import HOW_IT_WAS_LOADED
from pipeline.model.passes import scoring, tracing
from tests.conftest import INSTRUCTIONS

NAME = "qwen2_5_coder_0_5b"


@pytest.mark.slow
def test_weights_on_disk_give_the_same_means_and_scores(tmp_path):
    config = OmegaConf.to_object(compose(NAME, "standard", ["engine.dtype=bfloat16"]))
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
        found.append((moments, scoring.score_direction(model, candidate, validation, 1.0, 900)))
    (moments, score), (offloaded, offloaded_score) = found
    assert torch.equal(moments.mean, offloaded.mean)
    assert score == offloaded_score


@pytest.mark.slow
def test_activations_equal_hidden_states_and_do_not_depend_on_padding():
    config = OmegaConf.to_object(compose(NAME, "standard", []))
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


@pytest.mark.slow
def test_a_converted_model_says_nothing_of_how_it_was_loaded():
    """Else an export would be other bytes where the conversion is of another time."""
    config = OmegaConf.to_object(compose(NAME, "quick", []))
    assert isinstance(config, Config)
    saved = read_json(model_folder(config) / "tokenizer_config.json")
    assert not set(HOW_IT_WAS_LOADED) & saved.keys()
