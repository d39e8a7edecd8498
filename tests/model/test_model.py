"""Activations, interventions and weight edits against Hugging Face's own numbers."""

import functools

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from pipeline.errors import UserError
from pipeline.export.model import equivalence, surgery
from pipeline.maths.interventions import ActivationAddition, DirectionalAblation
from pipeline.model.chat import chat
from pipeline.model.generation.generation import generate
from pipeline.model.loading import loading
from pipeline.model.passes import tracing
from pipeline.model.passes.forward import all_logits, last_logits
from pipeline.model.passes.intervene import intervene
from tests.conftest import FAMILY, INSTRUCTIONS

# float32 inside RMSNorm and softmax: some hundred rounding steps on values of order one.
assert_near = functools.partial(assert_close, atol=2e-5, rtol=1e-5)


@pytest.fixture
def prompts(model):
    return chat.encode(model.tokenizer, INSTRUCTIONS)


@torch.inference_mode()
def hidden_states(model, prompts):
    padded = chat.pad_left(prompts, model.pad_id)
    out = model.hf(
        input_ids=padded.input_ids,
        attention_mask=padded.attention_mask,
        position_ids=padded.position_ids,
        output_hidden_states=True,
    )
    return torch.stack(out.hidden_states[:-1], dim=2)


def test_cached_activations_equal_hidden_states(model, prompts):
    n = len(model.post_instruction)
    ours = tracing.resid_pre(model, prompts, n)
    assert torch.equal(ours, hidden_states(model, prompts)[:, -n:])


def test_one_prompt_alone_equals_the_same_prompt_in_a_padded_batch(model, prompts):
    n = len(model.post_instruction)
    batch = tracing.resid_pre(model, prompts, n)
    assert len({len(tokens) for tokens in prompts}) > 1
    for row, tokens in enumerate(prompts):
        assert_near(batch[row], tracing.resid_pre(model, [tokens], n)[0])


@pytest.mark.parametrize("max_tokens", [1, 60, 10_000])
def test_means_do_not_depend_on_the_batching(model, prompts, max_tokens):
    n = len(model.post_instruction)
    expected = tracing.resid_pre(model, prompts, n).double().mean(dim=0)
    moments, rows = tracing.resid_pre_moments(model, prompts, n, max_tokens, keep=True)
    assert_near(moments.mean, expected)
    assert rows is not None
    assert_near(rows, tracing.resid_pre(model, prompts, n))
    assert_near(moments.variance, rows.double().var(dim=0, correction=0))


@pytest.mark.parametrize("max_tokens", [1, 60, 10_000])
def test_shared_prefix_and_padding_do_not_change_logits(model, prompts, max_tokens):
    expected = torch.stack([all_logits(model, tokens)[-1] for tokens in prompts])
    assert_near(last_logits(model, prompts, max_tokens), expected)


def test_there_is_one_bos_and_the_template_ends_the_prompt(model, prompts):
    tokenizer = model.tokenizer
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    tokens = chat.encode(tokenizer, ["hello"])[0]
    assert tokens.count(tokenizer.bos_token_id) == 1
    assert tuple(prompts[0][-len(model.post_instruction) :]) == model.post_instruction
    assert tokenizer.decode(model.post_instruction) == "<|im_end|>\n<|im_start|>assistant\n"


def test_a_tokenizer_without_template_is_refused(model):
    model.tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        chat.require_template(model.tokenizer, "base")


def test_a_word_of_several_tokens_is_no_refusal_token(model):
    with pytest.raises(UserError, match="'As' is 2 tokens"):
        chat.single_token_ids(model.tokenizer, ["As"])


def test_ablation_clears_every_resid_pre_that_had_the_component(model, prompts, direction):
    r_hat = direction.r_hat
    n = min(map(len, prompts))
    before = tracing.resid_pre(model, prompts, n).double() @ r_hat
    with intervene(model, DirectionalAblation(direction)):
        after = tracing.resid_pre(model, prompts, n).double() @ r_hat
    assert (before.abs().amax(dim=(0, 1)) > 0.1).all()
    assert_close(after, torch.zeros_like(after), atol=1e-5, rtol=0)
    assert_close(tracing.resid_pre(model, prompts, n).double() @ r_hat, before)


def test_addition_changes_later_layers_and_no_layer_before(model, prompts, direction):
    before = tracing.resid_pre(model, prompts, 3)
    for coefficient in (1.0, -2.0):
        with intervene(model, ActivationAddition(direction, coefficient)):
            after = tracing.resid_pre(model, prompts, 3)
        assert torch.equal(after[:, :, : direction.layer], before[:, :, : direction.layer])
        assert (after - before)[:, :, direction.layer + 1].abs().max() > 0.1


def test_addition_with_coefficient_zero_is_the_identity(model, prompts, direction):
    before = tracing.resid_pre(model, prompts, 3)
    with intervene(model, ActivationAddition(direction, 0.0)):
        assert torch.equal(tracing.resid_pre(model, prompts, 3), before)


def test_addition_equals_adding_to_the_embedding_at_layer_zero(model, prompts, direction):
    at_zero = type(direction)(direction.vector, layer=0, position=-1)
    with intervene(model, ActivationAddition(at_zero, 1.0)):
        live = last_logits(model, prompts, 10_000)
    surgery.untie(model)
    model.sites.embeddings[0].weight += direction.vector.float()
    assert_near(last_logits(model, prompts, 10_000), live)


def _tokens(model, prompts, intervention, n_tokens=12, batch_size=2, done=()):
    rows = [row for batch in generate(model, prompts, intervention, n_tokens, batch_size, done) for row in batch]
    return {row.row: row.tokens for row in rows}


def test_greedy_tokens_equal_step_by_step_argmax_without_cache(model, prompts, direction):
    for intervention in (None, DirectionalAblation(direction), ActivationAddition(direction, 2.0)):
        generated = _tokens(model, prompts, intervention)
        with intervene(model, intervention):
            for row, tokens in enumerate(prompts):
                context = list(tokens)
                for token in generated[row]:
                    assert int(all_logits(model, context)[-1].argmax()) == token
                    context.append(token)


def test_batches_already_done_are_not_generated_again(model, prompts):
    whole = _tokens(model, prompts, None)
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    rest = _tokens(model, prompts, None, done=set(order[:2]))
    assert rest == {row: tokens for row, tokens in whole.items() if row not in order[:2]}


def test_export_equals_live_ablation(model, prompts, direction, tmp_path):
    ablation = DirectionalAblation(direction)
    plain = last_logits(model, prompts, 10_000)
    live = equivalence.behaviour(model, prompts, ablation, 16, 10_000)
    before = equivalence.max_cosine_per_layer(model, prompts, direction.r_hat)
    surgery.untie(model)
    surgery.orthogonalize_weights(model, direction)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    export = loading.load("export", tmp_path, FAMILY, "float32", "cpu")
    exported = equivalence.behaviour(export, prompts, None, 16, 10_000)
    assert (plain - live.logits).abs().max() > 0.1
    assert_near(exported.logits, live.logits)
    assert exported.tokens == live.tokens
    assert min(before) > 0.01
    assert max(equivalence.max_cosine_per_layer(export, prompts, direction.r_hat)) < 1e-5
    assert not AutoModelForCausalLM.from_pretrained(tmp_path).config.tie_word_embeddings


def test_a_tied_head_left_tied_is_refused(model, direction):
    if not model.hf.config.tie_word_embeddings:
        pytest.skip("this model's head is its own")
    with pytest.raises(UserError, match="untie first"):
        surgery.orthogonalize_weights(model, direction)


def test_a_tie_is_a_difference_within_rounding():
    live, export = torch.tensor([1.0, 1.0004, 0.0]), torch.tensor([1.0004, 1.0, 0.0])
    assert equivalence.is_tie(live, export)
    assert not equivalence.is_tie(live, torch.tensor([1.01, 1.0, 0.0]))
