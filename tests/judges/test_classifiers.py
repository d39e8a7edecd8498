"""Safety judges on tiny random models of their architectures: loading, asking, padding, memory, errors."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM, Llama4Config, Llama4ForConditionalGeneration

from pipeline.config.compose import family
from pipeline.errors import UserError
from pipeline.judges.formats.formats import FORMATS
from pipeline.judges.model.adapter import add_adapter
from pipeline.judges.model.classifier import load
from pipeline.judges.model.classify import choice_probabilities, classify, encode, rendered
from pipeline.model.loading import random_model
from pipeline.names import LABELS
from tests.helpers.judges import (
    BOS,
    COMPLETION,
    PROMPT,
    RUBBISH,
    TEMPLATE_OF_PARTS,
    golden,
    judge_tokenizer,
)

ROWS = [
    (PROMPT, COMPLETION),
    ("x", "I'm sorry, but I can't help with that."),
    ("Name five colours that a painter would call warm.", "Red, orange, yellow {and} brown, ochre. " * 3),
]
ARCHITECTURES = {
    "llama_guard_2": "llama",
    "llama_guard_3": "llama",
    "llama_guard_4": "llama4",
    "harmbench": "llama",
    "harmbench_mistral": "mistral",
    "wildguard": "mistral",
    "wildguard_refusal": "mistral",
    "shieldgemma_2b": "gemma2",
    "shieldgemma_9b": "gemma2",
    "strongreject": "gemma",
}


def write_llama4(folder):
    """The whole multimodal model, dense and without an attention chunk size, as Llama Guard 4 comes."""
    tokenizer = judge_tokenizer(TEMPLATE_OF_PARTS)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size_mlp": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "moe_layers": [],
        "attention_chunk_size": None,
        "bos_token_id": 0,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": 0,
    }
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 28}
    widths = {"intermediate_size": 64, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}
    torch.manual_seed(0)
    hf = Llama4ForConditionalGeneration(Llama4Config(text_config=text, vision_config={**vision, **widths}))
    with torch.no_grad():
        for parameter in hf.language_model.parameters():
            if parameter.ndim == 2:
                parameter.normal_().mul_(parameter.shape[1] ** -0.5)
        hf.language_model.lm_head.weight.mul_(random_model.SHARPNESS)
    hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny random model of each architecture."""
    made = {}
    for name in sorted(set(ARCHITECTURES.values())):
        made[name] = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(random_model, "byte_tokenizer", judge_tokenizer)
            if name == "llama4":
                write_llama4(made[name])
            else:
                tiny = family(name).tiny
                random_model.write_random_model(made[name], tiny["model_type"], 0, tiny["options"])
    return made


@pytest.fixture(scope="module")
def adapter(folders, tmp_path_factory):
    """A low-rank adapter of two matrices of the gemma model, as it is saved after training."""
    folder, generator = tmp_path_factory.mktemp("adapter"), torch.Generator().manual_seed(5)
    weights = load_file(folders["gemma"] / "model.safetensors")
    tensors = {}
    for path in ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"):
        out, into = weights[f"{path}.weight"].shape
        tensors[f"base_model.model.{path}.lora_A.weight"] = torch.randn(4, into, generator=generator)
        tensors[f"base_model.model.{path}.lora_B.weight"] = torch.randn(out, 4, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "modules_to_save": None}
    config["target_modules"] = [key.split(".lora_A")[0].removeprefix("base_model.model.") for key in tensors][::2]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def opened(folders, adapter):
    def opened(name, **changes):
        form = dataclasses.replace(FORMATS[name], **changes)
        return load(form, folders[ARCHITECTURES[name]], adapter if form.base else None, "float32", "cpu")

    return opened


def verdicts(judge, rows=ROWS, batch_size=3, **options):
    """{row: what was judged}; every row once."""
    judged = [item for batch in classify(judge, rows, batch_size, **options) for item in batch]
    assert len({item.row for item in judged}) == len(judged)
    return {item.row: item for item in judged}


def test_every_judge_has_a_model_to_be_tested_on():
    assert list(ARCHITECTURES) == list(FORMATS)
    assert all(ARCHITECTURES[name] in form.model_types for name, form in FORMATS.items())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_three_at_once_are_judged_as_one_at_a_time(opened, name):
    judge = opened(name)
    together, alone = verdicts(judge), verdicts(judge, batch_size=1)
    assert sorted(together) == sorted(alone) == [0, 1, 2]
    for row, item in together.items():
        assert item.verdict.label in LABELS
        assert item.verdict == judge.form.verdict(item.answers)
        if judge.form.choices:
            assert_close(torch.tensor(item.answers), torch.tensor(alone[row].answers), atol=1e-6, rtol=1e-4)
        else:
            assert item == alone[row]
            assert item.verdict.label == "unknown", "what a random model says is not understood"


@pytest.mark.parametrize("name", ["shieldgemma_2b", "strongreject"])
def test_probabilities_are_the_softmax_of_the_choices_logits(opened, name):
    judge = opened(name)
    # A model that has learnt to answer: most of the probability is on the choices.
    choices = judge.tokenizer.convert_tokens_to_ids(list(judge.form.choices))
    lift = torch.zeros(len(judge.tokenizer)).index_fill(0, torch.tensor(choices), 60.0)
    judge.hf.get_output_embeddings().register_forward_hook(lambda _module, _args, out: out + lift)
    values = torch.linspace(1, 0, 2) if name.startswith("shield") else torch.linspace(0, 1, 5)
    for row, item in verdicts(judge).items():
        expected = []
        for tokens in encode(judge, *ROWS[row]):
            with torch.no_grad():
                logits = judge.hf(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
            expected.append(float(logits[choices].float().softmax(dim=-1) @ values))
        assert item.verdict.score == pytest.approx(max(expected), abs=1e-5)
        assert item.verdict.label == ("unsafe" if max(expected) >= 0.5 else "safe")


def test_a_model_that_says_no_choice_gives_no_verdict(opened):
    judge = opened("shieldgemma_9b")
    lift = torch.zeros(len(judge.tokenizer)).index_fill(0, torch.tensor([7]), 25.0)
    judge.hf.get_output_embeddings().register_forward_hook(lambda _module, _args, out: out + lift)
    assert {item.verdict.label for item in verdicts(judge).values()} == {"unknown"}
    assert choice_probabilities(judge, encode(judge, *ROWS[0])).sum(dim=-1).max() < 0.1


def said(judge, monkeypatch, text):
    """The judge, with a model that writes `text` whatever it is asked."""
    tokens = torch.tensor(judge.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long)

    def generate(input_ids, **_):
        return torch.cat([input_ids, tokens.expand(len(input_ids), -1)], dim=1)

    monkeypatch.setattr(judge.hf, "generate", generate)
    return verdicts(judge)


def test_what_the_model_writes_is_what_is_read(opened, monkeypatch):
    guard = said(opened("llama_guard_3"), monkeypatch, "\n\nunsafe\nS1,S9<|im_end|>")
    assert {(item.verdict.label, item.verdict.reason) for item in guard.values()} == {("unsafe", "S1,S9")}
    for text in RUBBISH:
        assert {item.verdict.label for item in said(opened("harmbench"), monkeypatch, text).values()} == {"unknown"}
    answers = "Harmful request: yes\nResponse refusal: yes\nHarmful response: no"
    [item, *_] = said(opened("wildguard"), monkeypatch, answers).values()
    assert item.verdict.label == "safe"
    assert FORMATS["wildguard_refusal"].verdict(item.answers).label == "refused", "the same answers serve"


@pytest.mark.parametrize("name", ["llama_guard_2", "llama_guard_4"])
def test_llama_guard_is_asked_in_its_chat_template(opened, name):
    judge = opened(name)
    [turns] = judge.form.build(PROMPT, COMPLETION)
    assert rendered(judge, turns) == golden("llama_guard_2")
    [tokens] = encode(judge, PROMPT, COMPLETION)
    assert judge.tokenizer.decode(tokens) == golden("llama_guard_2"), "no BOS but the template's own"


def test_a_template_that_drops_the_conversation_is_refused(opened):
    for name, parts in (("llama_guard_4", False), ("llama_guard_3", True)):
        with pytest.raises(UserError, match="leaves out part of the conversation"):
            verdicts(opened(name, parts=parts))


@pytest.mark.parametrize(("name", "count"), [("harmbench", 1), ("shieldgemma_2b", 1), ("wildguard", 0)])
def test_a_text_prompt_has_one_bos_or_its_own(opened, name, count):
    judge = opened(name)
    for text, tokens in zip(judge.form.build(*ROWS[0]), encode(judge, *ROWS[0]), strict=True):
        assert tokens.count(judge.tokenizer.bos_token_id) == count
        assert judge.tokenizer.decode(tokens) == BOS * count + text


@pytest.mark.parametrize(("name", "kept"), [("harmbench", slice(0, 511)), ("strongreject", slice(-511, None))])
def test_a_long_completion_is_clipped_as_the_judge_does_it(opened, name, kept):
    judge, long = opened(name), "".join(f"{number} " for number in range(400))
    [text] = judge.form.build(PROMPT, long[kept])
    assert judge.tokenizer.decode(encode(judge, PROMPT, long)[0]) == BOS + text
    assert encode(judge, PROMPT, long[:500]) == [judge.tokenizer(judge.form.build(PROMPT, long[:500])[0])["input_ids"]]


def test_a_row_too_long_to_read_is_unknown(opened):
    judge = opened("llama_guard_2")
    judge.hf.config.max_position_embeddings = 1200
    judged = verdicts(judge, [*ROWS, ("x", "y" * 1000)])
    assert judged[3].verdict.label == "unknown"
    assert judged[3].verdict.reason.endswith("tokens, and the judge reads 1136")
    assert {row: judged[row] for row in range(3)} == verdicts(judge)
    assert 3 not in verdicts(judge, [*ROWS, ("x", "y" * 1000)], done={3})


def test_batches_shrink_with_memory_and_finished_rows_are_not_given_again(opened):
    judge = opened("harmbench_mistral")
    expected = verdicts(judge)
    sizes = []

    def full(_module, args, kwargs):
        x = args[0] if args else kwargs["hidden_states"]
        sizes.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    hook = judge.hf.model.layers[1].register_forward_pre_hook(full, with_kwargs=True)
    assert verdicts(judge) == expected
    assert max(sizes) == 3
    hook.remove()
    assert verdicts(judge, batch_size=1, done={0, 2}) == {1: expected[1]}
    assert verdicts(judge, []) == {}


def test_an_adapter_adds_its_product_to_the_weights(opened, folders, adapter):
    form, rows = FORMATS["strongreject"], encode(opened("strongreject"), *ROWS[0])
    plain = load(dataclasses.replace(form, base=None), folders["gemma"], None, "float32", "cpu")
    before = choice_probabilities(plain, rows)
    tensors = load_file(adapter / "adapter_model.safetensors")
    for path in ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"):
        down, up = (tensors[f"base_model.model.{path}.lora_{side}.weight"] for side in "AB")
        plain.hf.get_submodule(path).register_forward_hook(
            lambda _module, args, out, down=down, up=up: out + (8 / 4) * (args[0] @ down.T) @ up.T
        )
    after = choice_probabilities(plain, rows)
    assert (after - before).abs().max() > 1e-6
    assert_close(choice_probabilities(opened("strongreject"), rows), after, atol=1e-8, rtol=1e-3)


ADAPTED = {
    "plain": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True, "init_lora_weights": "gaussian"},
    "biases": {"bias": "all"},
    "its own biases": {"bias": "lora_only"},
    "a bias of its own": {"lora_bias": True, "target_modules": ["q_proj"]},
    "ranks": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 3}},
    "whole modules": {"modules_to_save": ["lm_head", "input_layernorm"]},
    "one layer": {"layers_to_transform": [1]},
    "all": {"target_modules": "all-linear"},
}


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    """A tiny model whose attention has biases."""
    folder, tiny = tmp_path_factory.mktemp("qwen2"), family("qwen2").tiny
    random_model.write_random_model(folder, tiny["model_type"], 0, tiny["options"])
    return folder


def saved_by_peft(folder, out, **options):
    """Logits of the model under an adapter that is not merged, and whose files are in `out`; and without it."""
    from peft import LoraConfig, get_peft_model

    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    before = hf(IDS).logits
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **options})
    adapted, generator = get_peft_model(hf, config).eval(), torch.Generator().manual_seed(3)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(out, save_embedding_layers=False)
    return adapted(IDS).logits, before


IDS = torch.arange(18).reshape(2, 9) + 40


@torch.no_grad()
@pytest.mark.parametrize("options", ADAPTED.values(), ids=ADAPTED)
def test_what_is_merged_is_what_peft_runs(options, biased, tmp_path, monkeypatch):
    expected, before = saved_by_peft(biased, tmp_path, **options)
    hf = AutoModelForCausalLM.from_pretrained(biased, dtype=torch.float32).eval()
    names = [name for name, _ in hf.named_parameters(remove_duplicate=False)]
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("an adapter is read from its folder alone"))
    add_adapter("strongreject", hf, tmp_path)
    assert (expected - before).abs().max() > 1
    assert_close(hf(IDS).logits, expected, atol=2e-4, rtol=1e-4)
    assert [name for name, _ in hf.named_parameters(remove_duplicate=False)] == names


@torch.no_grad()
def test_a_merged_weight_is_summed_in_float32_and_rounded_once(biased, tmp_path):
    saved_by_peft(biased, tmp_path)
    plain, merged = (AutoModelForCausalLM.from_pretrained(biased, dtype=torch.bfloat16) for _ in range(2))
    add_adapter("strongreject", merged, tmp_path)
    tensors, changed = load_file(tmp_path / "adapter_model.safetensors"), 0
    for (name, weight), after in zip(plain.named_parameters(), merged.parameters(), strict=True):
        path = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{path}.lora_A.weight" in tensors:
            update = tensors[f"{path}.lora_B.weight"] @ tensors[f"{path}.lora_A.weight"]
            weight, changed = (weight.float() + 2 * update).bfloat16(), changed + 1
        assert after.dtype == torch.bfloat16
        assert torch.equal(weight, after), name
    assert changed == 8


@torch.no_grad()
def test_an_adapter_of_tied_weights_is_refused(folders, tmp_path):
    hf = AutoModelForCausalLM.from_pretrained(folders["gemma2"])
    head = hf.get_output_embeddings()
    assert head is not None
    assert hf.get_input_embeddings().weight is head.weight
    saved_by_peft(folders["gemma2"], tmp_path, target_modules=["embed_tokens"])
    with pytest.raises(UserError, match="changes weights that stand in two places"):
        add_adapter("strongreject", hf, tmp_path)


def test_an_adapter_needs_room_and_peft_and_no_pickle(folders, adapter, tmp_path, monkeypatch):
    with torch.device("meta"):
        hf = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folders["gemma"]))
    with pytest.raises(UserError, match="does not fit into memory"):
        add_adapter("strongreject", hf, adapter)
    shutil.copy(adapter / "adapter_config.json", tmp_path)
    torch.save(load_file(adapter / "adapter_model.safetensors"), tmp_path / "adapter_model.bin")
    assert "no readable adapter" in refused("strongreject", folders["gemma"], tmp_path)
    monkeypatch.setattr("pipeline.judges.model.adapter.find_spec", lambda name: None)
    message = "is an adapter, which needs peft: pip install 'refusal-direction[adapter]'"
    assert message in refused("strongreject", folders["gemma"], adapter)


def one_line(caught):
    text = str(caught.value)
    assert "\n" not in text
    return text


def refused(name, folder, adapter=None):
    with pytest.raises(UserError) as caught:
        load(FORMATS[name], folder, adapter, "float32", "cpu")
    return one_line(caught)


def test_a_folder_that_is_not_the_judges_is_refused_in_one_line(folders, adapter, tmp_path):
    assert "harmbench' has no readable" in refused("harmbench", tmp_path / "none")
    assert "architecture mistral" in refused("wildguard", folders["gemma"])
    assert "fetch google/gemma-2b" in refused("strongreject", folders["gemma2"], adapter)
    assert "give both folders" in refused("strongreject", folders["gemma"])
    assert "takes no adapter" in refused("harmbench", folders["llama"], adapter)
    (tmp_path / "config.json").write_text("[]")
    assert "has no readable" in refused("harmbench", tmp_path)
    shutil.copy(folders["llama"] / "config.json", tmp_path)
    assert "the tokenizer of judge 'harmbench' does not load" in refused("harmbench", tmp_path)
    judge_tokenizer(None).save_pretrained(tmp_path)
    assert "has no chat template" in refused("llama_guard_2", tmp_path)
    assert "model.safetensors is missing" in refused("harmbench", tmp_path)
    torch.save(load_file(folders["llama"] / "model.safetensors"), tmp_path / "pytorch_model.bin")
    assert "model.safetensors is missing" in refused("harmbench", tmp_path), "no pickles"
    tensors = load_file(folders["llama"] / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert "lacks 1 weights, model.norm.weight first" in refused("harmbench", tmp_path)
    shutil.copy(folders["gemma2"] / "config.json", tmp_path)
    random_model.byte_tokenizer().save_pretrained(tmp_path)
    assert "has no token Yes, No" in refused("shieldgemma_2b", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "no low-rank update that can be merged"),
        ({"lora_alpha": None}, "its peft_type or lora_alpha"),
        ({"init_lora_weights": "pissa"}, "(init_lora_weights)"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "(layer_replication)"),
        ({"alora_invocation_tokens": [1]}, "(alora_invocation_tokens)"),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, "(megatron_config, megatron_core)"),
        ({"of_a_later_version": 1}, "(of_a_later_version)"),
        ({"use_dora": True}, "does not fit the model at"),
        ({"r": 2}, "does not fit the model at"),
        ({"r": "four"}, "does not fit the model"),
        ({"target_modules": ["nothing"]}, "does not fit the model"),
        ({"modules_to_save": ["lm_head"]}, "does not fit the model at base_model.model.lm_head"),
    ],
)
def test_an_adapter_that_does_more_is_refused(folders, adapter, tmp_path, change, message):
    shutil.copytree(adapter, tmp_path, dirs_exist_ok=True)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **change}))
    assert message in refused("strongreject", folders["gemma"], tmp_path)


def test_an_adapter_of_another_model_is_refused(folders, adapter, tmp_path):
    assert "no readable adapter" in refused("strongreject", folders["gemma"], tmp_path)
    shutil.copy(adapter / "adapter_config.json", tmp_path)
    tensors = load_file(adapter / "adapter_model.safetensors")
    for change in (
        {key.replace("layers.1", "layers.9"): value for key, value in tensors.items()},
        {key: value[:, :-1].clone() for key, value in tensors.items()},
        {key: value for key, value in tensors.items() if "lora_B" not in key},
    ):
        save_file(change, tmp_path / "adapter_model.safetensors")
        assert "does not fit the model at" in refused("strongreject", folders["gemma"], tmp_path)
    save_file({"embed": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    assert "does not fit the model at" in refused("strongreject", folders["gemma"], tmp_path)
