"""Per-head projections and attention: hand-set models, every family, and what cannot be read."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pipeline.config.compose import family
from pipeline.errors import UserError
from pipeline.export import families
from pipeline.model.loading import loading
from pipeline.model.loading.random_model import write_random_model
from pipeline.model.passes import tracing
from pipeline.suffix.maths import attribution
from pipeline.suffix.model import heads
from pipeline.suffix.model.regions import AFTER, BEFORE, INSTRUCTION, REGIONS, SUFFIX, regioned
from tests.helpers.families import VARIANTS, tiny

PROMPTS = [("hello there", "! b c"), ("x", ""), ("tell me how bread rises", "zz top")]


def loaded(name, folder):
    return loading.load(name, folder, family(name), "float32", "cpu")


def unit(width, seed=1):
    vector = torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return vector / vector.norm()


# --- by hand


def blank(name, folder, **options) -> tuple[Any, Any]:
    """A loaded one-block model whose weights are zero but for gains of norms: a test sets the rest."""
    write_random_model(folder, name, 0, options)
    model = loaded(name, folder)
    with torch.no_grad():
        for key, parameter in model.hf.named_parameters():
            gain = ("norm" in key or "ln_" in key) and key.endswith("weight")
            parameter.fill_(1.0 if gain else 0.0)
    return model, model.hf


def test_grouped_query_masses_and_projections_equal_those_computed_by_hand(tmp_path):
    """Queries are zero, so that every token looks evenly at all before it; values copy one coordinate."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4}
    model, hf = blank("llama", tmp_path, **sizes, num_key_value_heads=2, tie_word_embeddings=False)
    block = hf.model.layers[0].self_attn
    with torch.no_grad():
        ids = torch.arange(hf.model.embed_tokens.weight.shape[0])
        hf.model.embed_tokens.weight[:, 0] = 1.0
        hf.model.embed_tokens.weight[:, 1] = (ids % 5).float()
        block.v_proj.weight[0, 0] = 2.0  # key-value head 0 (query heads 0 and 1): twice coordinate 0
        block.v_proj.weight[2, 1] = 1.0  # key-value head 1 (query heads 2 and 3): coordinate 1
        for head, gain in enumerate((1.0, -3.0, 0.5, 4.0)):
            block.o_proj.weight[6, 2 * head] = gain
    prompt = regioned(model, "hello there", "b c")
    r_hat = torch.zeros(8, dtype=torch.float64)
    r_hat[6] = 1.0
    [found] = heads.last_tokens(model, [prompt.tokens], r_hat, 1000)
    first, second = [], []
    for token in prompt.tokens:  # RMSNorm of (1, t % 5, 0, ...), by hand
        rms = math.sqrt((1 + (token % 5) ** 2) / 8 + 1e-6)
        first.append(1 / rms)
        second.append((token % 5) / rms)
    a, b = 2 * sum(first) / len(first), sum(second) / len(second)
    assert_close(found.heads[0], torch.tensor([a, -3 * a, 0.5 * b, 4 * b], dtype=torch.float64), rtol=1e-5, atol=1e-6)
    counts = [sum(where == region for where in prompt.regions) for region in range(len(REGIONS))]
    assert counts[SUFFIX] == len(" b c")
    assert min(counts) > 0
    masses = attribution.region_masses(found.attention, torch.tensor(prompt.regions), len(REGIONS))
    expected = torch.tensor(counts, dtype=torch.float64) / len(prompt.tokens)
    assert_close(masses[0], expected.expand(4, -1), rtol=1e-5, atol=1e-6)


def test_attention_towards_chosen_tokens_equals_a_softmax_by_hand(tmp_path):
    """GPT-2 without positions: one head looks at tokens by their letter, the other evenly."""
    model, hf = blank("gpt2", tmp_path, n_embd=8, n_layer=1, n_head=2, tie_word_embeddings=False)
    prompt = regioned(model, "hello there", "! b c")
    letters = prompt.of(SUFFIX)
    block = hf.transformer.h[0]
    with torch.no_grad():
        embedding = hf.transformer.wte.weight
        embedding[:, 0], embedding[:, 1] = 1.0, -1.0
        embedding[list(letters), 2], embedding[list(letters), 3] = 2.0, -2.0
        block.attn.c_attn.bias[0] = 1.5  # every query of head 0
        block.attn.c_attn.weight[2, 8] = 1.0  # its key: coordinate 2
        block.attn.c_attn.weight[2, 16] = 1.0  # its value likewise
        block.attn.c_attn.weight[0, 20] = 1.0  # value of head 1: coordinate 0
        block.attn.c_proj.weight[0, 5] = 3.0
        block.attn.c_proj.weight[4, 5] = -2.0
        block.attn.c_proj.bias[5] = 0.25
    r_hat = torch.zeros(8, dtype=torch.float64)
    r_hat[5] = 1.0
    [found] = heads.last_tokens(model, [prompt.tokens], r_hat, 1000)
    rows = np.zeros((len(prompt.tokens), 8))
    rows[:, 0], rows[:, 1] = 1, -1
    chosen = np.isin(prompt.tokens, letters)
    rows[chosen, 2], rows[chosen, 3] = 2, -2
    x = rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-5)  # LayerNorm: their mean is zero
    weights = np.exp(1.5 * x[:, 2] / math.sqrt(4))
    weights /= weights.sum()
    assert_close(found.attention[0, 0].double().numpy(), weights, rtol=1e-5, atol=1e-6)
    masses = attribution.region_masses(found.attention, torch.tensor(prompt.regions), len(REGIONS))[0]
    for region in (BEFORE, INSTRUCTION, SUFFIX, AFTER):
        inside = np.array(prompt.regions) == region
        assert float(masses[0, region]) == pytest.approx(weights[inside].sum(), rel=1e-5)
        assert float(masses[1, region]) == pytest.approx(inside.mean(), rel=1e-5)
    expected = [3 * float(weights @ x[:, 2]), -2 * float(x[:, 0].mean())]
    assert_close(found.heads[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6)
    assert float(found.constants[0]) == pytest.approx(0.25)


# --- every family


def decomposed(model):
    prompts = [regioned(model, *row).tokens for row in PROMPTS]
    rows = heads.last_tokens(model, prompts, unit(model.sites.head.in_features), 100)
    return prompts, rows


@pytest.mark.parametrize("name", [*families.names(), *VARIANTS])
def test_heads_biases_mlps_and_embedding_add_up_to_the_residual_stream(name, tmp_path):
    base, options = VARIANTS.get(name, (name, {}))
    model = loaded(base, tiny(base, tmp_path / "model", **options))
    if name == "falcon, sequential, ALiBi":  # transformers itself computes it in two ways
        with pytest.raises(UserError, match="eager attention differs"):
            decomposed(model)
        return
    prompts, rows = decomposed(model)
    summed, whole = (torch.stack([getattr(row, key) for row in rows]) for key in ("summed", "resid"))
    written = torch.stack([row.heads.sum(dim=1) + row.constants for row in rows])
    writes = torch.stack([row.attention_writes for row in rows])
    assert attribution.relative_error(summed, whole) < 1e-5
    assert attribution.relative_error(written, writes) < 1e-5
    assert attribution.relative_error(written - torch.stack([row.heads[:, 0] for row in rows]), writes) > 1e-2
    r_hat = unit(model.sites.head.in_features)
    for prompt, row in zip(prompts, rows, strict=True):  # another reader of the stream, under the usual attention
        pre = tracing.resid_pre(model, [prompt], 1)[0, 0].double()
        assert_close(row.resid[:-1], pre @ r_hat, atol=2e-5, rtol=1e-5)
        assert_close(row.cosine, torch.nn.functional.cosine_similarity(pre, r_hat[None]), atol=2e-5, rtol=1e-5)
        mass = row.attention.sum(dim=-1)
        assert row.attention.shape[-1] == len(prompt)
        assert bool((mass <= 1 + 1e-5).all())
        assert name == "gpt_oss" or bool((mass >= 1 - 1e-5).all()), "only attention sinks take some away"


def test_attention_is_what_it_was_after_reading(tmp_path):
    model = loaded("qwen2", tiny("qwen2", tmp_path / "model"))
    before = model.hf.config._attn_implementation
    assert before != "eager"
    with pytest.raises(RuntimeError), heads.eager_attention(model.hf):
        raise RuntimeError
    assert model.hf.config._attn_implementation == before


def test_packed_weights_are_refused(tmp_path):
    model = loaded("qwen2", tiny("qwen2", tmp_path / "model"))
    block: Any = model.sites.blocks[0].get_submodule("self_attn.o_proj")
    block.weight = torch.nn.Parameter(block.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(UserError, match="heads need plain weights"):
        heads.last_tokens(model, [regioned(model, "x").tokens], unit(32), 100)
