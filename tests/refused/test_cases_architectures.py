"""Architectures: measured exactly, or one line says what is missing; and verdicts that say what happened."""

import dataclasses
import json
import subprocess
import sys

import torch
from transformers import AutoConfig

from pipeline.config.compose import family
from pipeline.config.family import Parameter, Write
from pipeline.export.model import equivalence, proof
from pipeline.maths.interventions import DirectionalAblation
from pipeline.model.chat import chat
from pipeline.model.generation.decoding import stop_tokens
from pipeline.model.generation.generation import generate
from pipeline.model.loading.random_model import byte_tokenizer
from pipeline.model.passes.intervene import intervene
from tests.conftest import FAMILY, INSTRUCTIONS, ROOT
from tests.helpers.cases import Cases, fails, refused
from tests.helpers.graph import Project
from tests.helpers.tiny import changed, configured, direction, exported, opened, tiny

cases = Cases("Architectures, generation, verdicts")
LONG = ["tell me how bread rises, " * 6, "hello there", "what is the capital of France? " * 4]


def exact(folder, described=FAMILY, prompts=INSTRUCTIONS):
    """An export of the folder's model equals live ablation, within the bound of its family."""
    model, after = opened(folder, described), opened(exported(folder, described), described)
    found = equivalence.compare(model, after, model.encode(prompts), direction(), 8, 10_000)
    proof.require_equal(found, described.exact, "float32")
    assert found.effect_max > 0.01, "the ablation does something"


def check(folder):
    command = [sys.executable, "-m", "pipeline", "check", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@cases("A01", "heads times their width is not d_model", "exact")
def wide_heads(tmp_path):
    exact(tiny(tmp_path / "m", "qwen3", head_dim=16, layer_types=None), family("qwen3"))


@cases("A03", "a sliding window shorter than the prompt, in all blocks and in upper ones", "exact")
def window(tmp_path):
    exact(tiny(tmp_path / "all", "mistral", sliding_window=16), family("mistral"), LONG)
    exact(tiny(tmp_path / "some", sliding_window=16, use_sliding_window=True, max_window_layers=2), FAMILY, LONG)


@cases("A04", "1, 2 and 12 blocks; one coordinate of the stream a thousand times the others", "exact")
def depths(tmp_path):
    for depth in (1, 2, 12):
        exact(tiny(tmp_path / str(depth), num_hidden_layers=depth, layer_types=None))
    folder = tiny(tmp_path / "massive")
    exact(changed(folder, lambda found: found["model.embed_tokens.weight"][:, 3].mul_(1000)))


@cases("A05", "an architecture that no family file describes", "refused: names it and the known ones")
def unknown(tmp_path):
    folder = tiny(tmp_path / "m", "stablelm", head_dim=None)
    with refused("has architecture 'stablelm', but family 'llama' describes"):
        opened(folder)
    fails(check(folder), r"architecture 'stablelm', which no file of conf/family/ describes")


def experts():
    """Llama 4's text model: its experts hand out tokens without the batch's axis."""
    outs = [("feed_forward.experts.down_proj", 2), ("feed_forward.shared_expert.down_proj.weight", 0)]
    return dataclasses.replace(
        family("llama"),
        name="llama4",
        model_types=["llama4_text"],
        mlp=Write(["feed_forward"], [Parameter(name, axis) for name, axis in outs]),
        readers=["self_attn.[qkv]_proj.*", "feed_forward.*", "input_layernorm.*", "post_attention_layernorm.*"],
    )


@cases("A06", "experts whose tokens have no batch axis (Llama 4)", "exact, also where rows of a batch differ")
def flat_rows(tmp_path):
    from pipeline.model.passes.rowwise import Rows, intervene_rows

    options = {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1}
    folder = tiny(tmp_path / "m", "llama4_text", intermediate_size_mlp=64, **options)
    exact(folder, experts())
    model = opened(folder, experts())
    padded = chat.pad_left(model.encode(["hello there"] * 2), model.pad_id)

    def logits():
        return model.hf(**padded.inputs(model.hf), use_cache=False).logits[:, -1].detach()

    with intervene_rows(model, [None, DirectionalAblation(direction())], Rows(torch.tensor([0, 1]))):
        mixed = logits()
    plain = logits()
    with intervene(model, DirectionalAblation(direction())):
        live = logits()
    torch.testing.assert_close(mixed, torch.stack([plain[0], live[1]]), atol=1e-4, rtol=1e-4)
    assert (plain - live).abs().max() > 0.01


@cases("A07", "a hybrid whose attention has another name in some blocks (Qwen 3 Next)", "refused: names the module")
def hybrid(tmp_path):
    options = {
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "num_experts": 0,
        "head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    described = dataclasses.replace(family("llama"), name="next", model_types=["qwen3_next"])
    with refused("has no module 'self_attn'"):
        opened(tiny(tmp_path / "m", "qwen3_next", **options), described)


@cases("A10", "one write a block (Nemotron-H and the like)", "refused: names the module that is not there")
def one_write(tmp_path):
    described = dataclasses.replace(family("llama"), mlp=Write(["mixer"], family("llama").mlp.parameters))
    with refused("has no module 'mixer', so it is not of family"):
        opened(tiny(tmp_path / "m", "llama"), described)


@cases(
    "A11", "a block that does more than add its two writes (a scale on the stream)", "refused: by how much it differs"
)
def scaled_stream(tmp_path, monkeypatch):
    from transformers.models.qwen2 import modeling_qwen2

    plain = modeling_qwen2.Qwen2DecoderLayer.forward
    monkeypatch.setattr(modeling_qwen2.Qwen2DecoderLayer, "forward", lambda *a, **k: 1.2 * plain(*a, **k))
    with refused("writes differ from the residual stream"):
        opened(tiny(tmp_path / "m"))


@cases("A12", "a family file that forgets a matrix that writes", "refused: names the parameter")
def forgotten_writer(tmp_path):
    readers = [name for name in FAMILY.readers if not name.startswith("mlp.up")]
    with refused("does not know parameter 'model.layers.0.mlp.up_proj.weight'"):
        opened(tiny(tmp_path / "m"), dataclasses.replace(FAMILY, readers=readers))


@cases("A14", "a wrapper of text and images that is no causal language model", "refused: names the architecture")
def wrapper(tmp_path):
    folder = tiny(tmp_path / "m")
    AutoConfig.for_model("mistral3").save_pretrained(folder)
    fails(check(folder), "architecture 'mistral3', which no file of conf/family/ describes")
    with refused("does not load|Unrecognized configuration"):
        opened(folder, dataclasses.replace(FAMILY, model_types=["mistral3"]))


def measured(tmp_path, overrides):
    """The filter's verdict on the tiny model."""
    project = Project(tmp_path / "graph")
    project.params(overrides=overrides)
    for stage in ("compose", "prompts", "engine", "refusal_tokens", "activations", "scores", "direction"):
        project.stage(stage)
    return json.loads((project.at("models") / "direction/selection.json").read_text())


def source(folder):
    """Overrides that measure a folder."""
    return f"model.source.kind=folder, '+model.source.path=\"{folder}\"'"


@cases("A15", "a model that refuses everything", "verdict refuses_everything, with counts of both classes")
def refuses_all(tmp_path):
    def always_k(found):
        found["model.embed_tokens.weight"][:, 3] = 100.0
        found["model.norm.weight"][:] = torch.eye(32)[3]
        found["lm_head.weight"][byte_tokenizer().convert_tokens_to_ids("k"), 3] = 50.0

    folder = changed(tiny(tmp_path / "m"), always_k)
    found = measured(tmp_path, source(folder))
    assert found["verdict"] == "refuses_everything", found
    assert "24 of 24 harmless train prompts are refused by the metric too" in found["reason"]


@cases("A16", "a model that answers nothing", "verdict no_answers, with how many answers are empty")
def silent(tmp_path):
    folder = tiny(tmp_path / "m")
    changed(folder, lambda found: found["model.norm.weight"].zero_())
    configured(folder, "generation_config.json", eos_token_id=[0, 2])
    found = measured(tmp_path, source(folder))
    assert found["verdict"] == "no_answers", found
    assert "get an empty answer" in found["reason"]


@cases("A17", "too few prompts of one class", "verdict too_few_prompts, which class, how many, how many are needed")
def few(tmp_path):
    found = measured(tmp_path, "select.min_val=20")
    assert found["verdict"] == "too_few_prompts", found
    assert "harmless_val has 12 of at least 20 prompts" in found["reason"]


def greedy(model, tokens, n):
    """Plain argmax, one token at a time, no cache."""
    answer = []
    for _ in range(n):
        logits = model.hf(torch.tensor([[*tokens, *answer]]), use_cache=False).logits[0, -1]
        answer.append(int(logits.argmax()))
        if answer[-1] in stop_tokens(model):
            return tuple(answer[:-1])
    return tuple(answer)


SHIPPED = {
    "repetition_penalty": 5.0,
    "suppress_tokens": list(range(3, 100)),
    "no_repeat_ngram_size": 1,
    "num_beams": 3,
    "do_sample": True,
    "temperature": 3.0,
    "min_new_tokens": 7,
    "bad_words_ids": [[100], [101]],
    "begin_suppress_tokens": list(range(3, 200)),
}


@cases("G01", "generation settings that ship with a model", "not applied, and said so: greedy answers are plain argmax")
def shipped(tmp_path):
    folder = configured(tiny(tmp_path / "m"), "generation_config.json", **SHIPPED)
    said = []
    model = opened(folder, note=said.append)
    assert any("repetition_penalty" in line and "not applied" in line for line in said)
    prompts = model.encode(INSTRUCTIONS)
    rows = [item for batch in generate(model, prompts, None, 12, 2) for item in batch]
    for item in rows:
        assert item.tokens == greedy(model, prompts[item.row], 12)


@cases("G02", "the same, where the library generates", "not applied")
def shipped_to_library(tmp_path):
    from pipeline.model.generation import decoding

    model = opened(configured(tiny(tmp_path / "m"), "generation_config.json", **SHIPPED))
    prompts = model.encode(INSTRUCTIONS)
    for prompt, (tokens, _) in zip(prompts, decoding.by_library(model, prompts, 12, 0), strict=True):
        assert tokens == greedy(model, prompt, 12)


@cases("G03", "the same in a configuration of an older library, inside config.json", "not applied")
def shipped_in_config(tmp_path):
    from pipeline.model.generation import decoding

    folder = configured(tiny(tmp_path / "m"), repetition_penalty=5.0, suppress_tokens=list(range(3, 100)))
    (folder / "generation_config.json").unlink(missing_ok=True)
    model = opened(folder)
    prompts = model.encode(INSTRUCTIONS)
    for prompt, (tokens, _) in zip(prompts, decoding.by_library(model, prompts, 12, 0), strict=True):
        assert tokens == greedy(model, prompt, 12)


@cases("G04", "several end tokens, one only in the generation settings", "all end an answer")
def ends(tmp_path):
    model = opened(configured(tiny(tmp_path / "m"), "generation_config.json", eos_token_id=[2, 77]))
    assert stop_tokens(model) == {2, 77}
    assert byte_tokenizer().eos_token_id == 2


test_cases = cases.test()
