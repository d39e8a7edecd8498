"""Restorations against other ways to compute the same, and their controls."""

import functools

import nnsight
import pytest
import torch
from nnsight import TransformersModel
from torch.testing import assert_close

from pipeline.config.compose import family
from pipeline.export import families
from pipeline.model.chat import chat
from pipeline.model.loading import loading
from pipeline.model.passes import tracing
from pipeline.model.passes.forward import all_logits
from pipeline.suffix.model.regions import regioned_all
from pipeline.suffix.model.restore import Component, HeadOutputs, _record, _restoring, restored
from tests.conftest import INSTRUCTIONS
from tests.helpers.families import tiny

assert_near = functools.partial(assert_close, atol=1e-4, rtol=1e-4)
SUFFIX_TEXT = "! b c zz"


def pairs(model):
    plain = [prompt.tokens for prompt in regioned_all(model, INSTRUCTIONS)]
    return plain, [prompt.tokens for prompt in regioned_all(model, INSTRUCTIONS, SUFFIX_TEXT)]


def first_logit(logits):
    return logits[:, 50]


def every_head(model):
    n = model.hf.config.get_text_config().num_attention_heads
    return tuple((layer, head) for layer in range(model.n_layers) for head in range(n))


def unit(width=32):
    vector = torch.randn(width, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return vector / vector.norm()


@pytest.mark.parametrize("name", families.names())
def test_nothing_changes_nothing_and_every_head_brings_all_back(name, tmp_path):
    """Of a token after the suffix, only what heads bring can depend on the suffix; positions too in some families."""
    model = loading.load(name, tiny(name, tmp_path / "model"), family(name), "float32", "cpu")
    plain, suffixed = pairs(model)
    n = len(model.post_instruction)
    found = restored(model, plain, suffixed, [None, HeadOutputs(every_head(model), n)], first_logit, 150)
    before, after = (
        torch.stack([all_logits(model, prompt)[-1, 50].double() for prompt in prompts]) for prompts in (plain, suffixed)
    )
    assert (before - after).abs().max() > 0.005
    assert_near(found[0], after)
    if name != "gpt2":  # learned positions write to the stream themselves
        assert_near(found[1], before)


def test_restoring_what_is_the_same_changes_nothing(model):
    _, suffixed = pairs(model)
    n = len(model.post_instruction)
    wanted = [None, HeadOutputs(((1, 0), (2, 3)), n), Component(unit(), (0, 1, 2, 3), n)]
    found = restored(model, suffixed, suffixed, wanted, first_logit, 10_000)
    assert_near(found[1], found[0])
    assert_near(found[2], found[0])


def test_restored_heads_equal_an_nnsight_edit_of_the_whole_pass(model):
    plain, suffixed = pairs(model)
    wanted = ((1, 0), (1, 2), (3, 3))
    found = restored(model, plain, suffixed, [HeadOutputs(wanted, 2)], first_logit, 10_000)[0]
    traced = TransformersModel(model.hf, tokenizer=model.tokenizer)
    width = 8
    for row, (a, b) in enumerate(zip(plain, suffixed, strict=True)):
        kept = {}
        with torch.inference_mode(), traced.trace(chat.pad_left([a], 0).inputs(model.hf), use_cache=False):
            rows = []
            for layer, head in wanted:
                z = traced.model.layers[layer].self_attn.o_proj.input
                rows.append(z[:, -2:, head * width : (head + 1) * width].clone())
            kept = nnsight.save(rows)
        with torch.inference_mode(), traced.trace(chat.pad_left([b], 0).inputs(model.hf), use_cache=False):
            for (layer, head), value in zip(wanted, kept, strict=True):
                traced.model.layers[layer].self_attn.o_proj.input[:, -2:, head * width : (head + 1) * width] = value
            logits = nnsight.save(traced.lm_head.output[:, -1, 50])
        assert_near(found[row], logits[0].double(), msg=f"prompt {row}")


def test_the_component_is_what_it_was_and_nothing_else_moves(model):
    plain, suffixed = pairs(model)
    r_hat, n = unit(), len(model.post_instruction)
    a, b = plain[0], suffixed[0]
    before = tracing.resid_pre(model, [a], n)[0].double()
    usual = tracing.resid_pre(model, [b], n)[0].double()
    kept = _record(model, [a], n)
    seen = {}

    def look(_module, args):
        seen["x"] = args[0][0, -n:].double().clone()

    with torch.inference_mode(), _restoring(model, Component(r_hat, (2,), n), kept):
        handle = model.sites.blocks[2].register_forward_pre_hook(look)  # after the one that restores
        model.hf(**chat.pad_left([b], 0).inputs(model.hf), use_cache=False)
        handle.remove()
    was, now, target = usual[:, 2], seen["x"], before[:, 2]
    assert ((was - target) @ r_hat).abs().max() > 0.05
    assert_close(now @ r_hat, target @ r_hat, atol=1e-5, rtol=0)
    across = torch.eye(32, dtype=torch.float64) - torch.outer(r_hat, r_hat)
    assert_close(now @ across, was @ across, atol=1e-5, rtol=0)
    last = restored(model, [a], [b], [Component(r_hat, (2,), 1), Component(r_hat, (2,), n)], first_logit, 10_000)
    assert (last[0] - last[1]).abs().max() > 1e-4
