"""Every family file on a random model of its architecture; mutations are caught by what should catch them."""

import dataclasses
import json
import math

import pytest
import torch

from pipeline.config.compose import family
from pipeline.errors import UserError
from pipeline.export import families
from pipeline.export.model import exactness, streaming, surgery
from pipeline.model import writers
from pipeline.model.loading import loading
from pipeline.model.passes.forward import all_logits, last_logits
from pipeline.progress import byte_progress
from tests.helpers.families import NAMES, VARIANTS, direction, tiny


def test_the_table_has_the_families_that_it_should():
    named = "llama mistral mixtral qwen2 qwen3 qwen2_moe qwen3_moe gemma gemma2 gemma3 phi3 olmo2 granite gpt_neox gpt2"
    assert {*named.split(), "falcon", "bloom", "gpt_oss"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_family_is_as_exact_as_it_says(name):
    described, found = families.measured(name)
    assert families.failures(described, found) == []
    same = found.equivalence
    assert same.effect_max > 0.1
    if not described.exact:  # an honest exception: near the live ablation, and not equal to it
        assert families.ROUNDING < same.logit_difference_max < 0.25 * same.effect_max
    if found.addition_why:
        assert "no parameter in block 1 that adds the same to every token" in found.addition_why


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_an_architecture_are_exact_too(variant, tmp_path):
    name, options = VARIANTS[variant]
    described = family(name)
    found = exactness.measure(described, tiny(name, tmp_path / "model", **options))
    assert families.failures(described, found) == []
    assert not math.isnan(found.addition_at_0)


@pytest.mark.parametrize("name", NAMES)
def test_next_token_logits_are_those_of_each_prompt_alone(name, tmp_path):
    """Prompts longer than a sliding window too: padding between a shared prefix and the rest would be counted."""
    model = loading.load(name, tiny(name, tmp_path / "model"), family(name), "float32", "cpu")
    prompts = model.encode(["hello there", "tell me how bread rises, in two short sentences", "x"])
    alone = torch.stack([all_logits(model, prompt)[-1] for prompt in prompts])
    torch.testing.assert_close(last_logits(model, prompts, 10_000), alone, atol=1e-4, rtol=1e-4)


def test_a_failing_family_is_named_and_counted(capsys, monkeypatch, tmp_path):
    described, found = families.measured("llama")
    monkeypatch.setattr(families, "measured", lambda name: (described, dataclasses.replace(found, n_edited=3)))
    monkeypatch.setattr(families, "TABLE", tmp_path / "families.csv")
    assert families.check(["llama"]) == 1
    assert "family 'llama': a writer was not edited" in capsys.readouterr().err


# --- mutations


def load_as(described, folder):
    return loading.load("mutant", folder, described, "float32", "cpu")


@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_the_pre_norm_of_a_post_norm_model_is_caught(tmp_path, part):
    described, folder = family("gemma2"), tiny("gemma2", tmp_path / "model")
    load_as(described, folder)
    wrong = {"attention": "input_layernorm", "mlp": "pre_feedforward_layernorm"}[part]
    getattr(described, part).modules = [wrong]
    with pytest.raises(UserError, match=r"family 'gemma2'.*residual stream after 'model.layers.0'.*another module"):
        load_as(described, folder)


def test_a_module_before_the_post_norm_is_caught(tmp_path):
    described, folder = family("olmo2"), tiny("olmo2", tmp_path / "model")
    described.mlp.modules = ["mlp"]
    with pytest.raises(UserError, match="another module than the one that writes"):
        load_as(described, folder)


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "gpt_oss"])
def test_a_fused_expert_tensor_left_out_is_caught(tmp_path, name):
    described, folder = family(name), tiny(name, tmp_path / "model")
    experts = "mlp.experts.down_proj"
    described.mlp.parameters = [row for row in described.mlp.parameters if row.name != experts]
    with pytest.raises(UserError, match=rf"does not know parameter 'model.layers.0.{experts}'"):
        load_as(described, folder)
    described.readers.append(experts)  # said to be a reader: what it writes gives it away
    with pytest.raises(UserError, match=r"finds no parameter of the mlp write|MLP still writes along the direction"):
        load_as(described, folder)


def test_a_tied_head_left_tied_is_caught(tmp_path, monkeypatch):
    described, folder = family("qwen2"), tiny("qwen2", tmp_path / "model")
    with pytest.raises(UserError, match="untie first"):
        surgery.orthogonalize_weights(load_as(described, folder), direction())
    monkeypatch.setattr(streaming, "_untied_config", lambda model: {})
    with pytest.raises(UserError, match="lm_head tied to the edited embedding"):
        streaming.export(folder, tmp_path / "export", described, direction(), byte_progress)


def test_a_square_matrix_read_along_the_wrong_axis_is_caught(tmp_path):
    described, folder = family("llama"), tiny("llama", tmp_path / "model")
    described.attention.parameters[0].axis = 1
    with pytest.raises(UserError, match="attention still writes along the direction"):
        load_as(described, folder)


def test_a_bias_left_out_is_caught(tmp_path):
    described, folder = family("gpt2"), tiny("gpt2", tmp_path / "model")
    described.mlp.parameters = described.mlp.parameters[:1]
    with pytest.raises(UserError, match=r"does not know parameter 'transformer.h.0.mlp.c_proj.bias'"):
        load_as(described, folder)


def test_a_forgotten_multiplier_is_caught(tmp_path):
    described, folder = family("granite"), tiny("granite", tmp_path / "model")
    described.residual_multiplier = ""
    with pytest.raises(UserError, match=r"residual stream after 'model.layers.0'"):
        load_as(described, folder)


def test_a_forgotten_position_embedding_is_caught(tmp_path):
    described, folder = family("gpt2"), tiny("gpt2", tmp_path / "model")
    described.embedding.modules = ["transformer.wte"]
    with pytest.raises(UserError, match="residual stream after 'embeddings'"):
        load_as(described, folder)


# --- bad input


def test_another_architecture_is_refused_by_name(tmp_path):
    folder = tiny("gemma2", tmp_path / "model")
    with pytest.raises(UserError, match=r"'mutant' has architecture 'gemma2', but family 'llama' describes llama"):
        load_as(family("llama"), folder)


def test_remote_code_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"family 'qwen', which is refused: .*never run here"):
        load_as(family("qwen"), tmp_path)


def test_weights_with_nan_are_refused(tmp_path):
    folder = tiny("llama", tmp_path / "model")
    model = load_as(family("llama"), folder)
    model.hf.get_parameter("model.layers.1.mlp.down_proj.weight")[0, 0] = math.nan
    model.hf.save_pretrained(folder)
    with pytest.raises(UserError, match=r"after 'model.layers.1' holds NaN"):
        load_as(family("llama"), folder)


def test_a_direction_of_another_width_is_refused(tmp_path):
    model = load_as(family("gpt_neox"), tiny("gpt_neox", tmp_path / "model"))
    with pytest.raises(UserError, match="the direction has 16 components"):
        surgery.orthogonalize_weights(model, direction(16))


def test_a_template_with_two_bos_is_refused(tmp_path):
    folder = tiny("llama", tmp_path / "model")
    path = folder / "chat_template.jinja"
    path.write_text("{{ bos_token }}{{ bos_token }}" + path.read_text())
    with pytest.raises(UserError, match="two BOS tokens"):
        load_as(family("llama"), folder)


def test_quantised_repositories_are_refused_with_what_to_use(tmp_path):
    folder = tiny("llama", tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(UserError, match=r"quantised by gptq: name the full-precision repository"):
        load_as(family("llama"), folder)
    with pytest.raises(UserError, match="export from the model's full-precision repository"):
        streaming.export(folder, tmp_path / "export", family("llama"), direction(), byte_progress)
    assert not (tmp_path / "export").exists()


def test_every_parameter_of_every_family_is_accounted_for_once(tmp_path):
    for name in NAMES:
        model = load_as(family(name), tiny(name, tmp_path / name))
        names = [key for key, _ in model.hf.named_parameters()]
        accounts = writers.account(names, family(name))
        assert sorted([*accounts.writers, *accounts.others]) == sorted(names)
        assert model.report.n_writers == len(accounts.writers)
