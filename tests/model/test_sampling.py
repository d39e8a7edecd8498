"""Sampled answers of a model: of no batch and no order, and as likely as the model says."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from pipeline.config.compose import compose, family
from pipeline.config.sampling import OWN
from pipeline.errors import UserError
from pipeline.maths.interventions import DirectionalAblation
from pipeline.maths.sampling import Draws, Sampling, uniforms
from pipeline.model.generation import decoding
from pipeline.model.generation.generation import generate, generate_jobs
from pipeline.model.loading import loading
from pipeline.model.passes.forward import last_logits
from pipeline.stages.shared import sampling
from tests.conftest import INSTRUCTIONS
from tests.helpers.families import tiny as family_model
from tests.helpers.tiny import configured, direction, opened, tiny

PROMPTS = [*INSTRUCTIONS, "y", "why is the sky blue? answer in one line", "and now?"]
N = 8
HOT = Sampling(1.5, 0.95, 40)


def answers(model, prompts, draws, batch_size=3, **options):
    rows = [row for batch in generate(model, prompts, None, N, batch_size, draws=draws, **options) for row in batch]
    return [row.tokens for row in sorted(rows, key=lambda row: row.row)]


def drawn_for(names, how=HOT, draw=0):
    return Draws(how, uniforms(0, draw, names, N))


@pytest.fixture(params=["qwen2", "phi3"])  # the project's own loop, and the library's
def any_model(request, tmp_path):
    return loading.load("m", family_model(request.param, tmp_path / "m"), family(request.param), "float32", "cpu")


def test_an_answer_is_of_no_batch_and_no_order(any_model):
    prompts = any_model.encode(PROMPTS)
    expected = answers(any_model, prompts, drawn_for(PROMPTS))
    assert expected != answers(any_model, prompts, None), "not the greedy ones"
    assert expected != answers(any_model, prompts, drawn_for(PROMPTS, draw=1))
    for size, options in ((1, {}), (len(prompts), {"padding": 3}), (2, {"max_tokens": 60})):
        assert answers(any_model, prompts, drawn_for(PROMPTS), size, **options) == expected
    turned = answers(any_model, prompts[::-1], drawn_for(PROMPTS[::-1]))
    assert turned[::-1] == expected


def test_the_library_draws_the_same_tokens(model):
    prompts = model.encode(PROMPTS)
    draws = drawn_for(PROMPTS, Sampling(4.0))
    rows = decoding.by_library(model, prompts, N, 0, draws=draws)
    assert [tokens for tokens, _ in rows] == answers(model, prompts, draws)
    assert max(len(set(tokens)) for tokens, _ in rows) > 2, "no token is as likely as to come every time"


def test_without_heat_an_answer_is_the_greedy_one(any_model):
    prompts = any_model.encode(PROMPTS)
    assert answers(any_model, prompts, drawn_for(PROMPTS, Sampling(1e-5))) == answers(any_model, prompts, None)


def test_first_tokens_come_as_often_as_the_model_says(model):
    n, [prompt] = 2000, model.encode(INSTRUCTIONS[:1])
    names = [f"copy {i}" for i in range(n)]
    rows = [
        row.tokens
        for batch in generate(model, [prompt] * n, None, 1, 500, draws=Draws(Sampling(4.0), uniforms(0, 0, names, 1)))
        for row in batch
    ]
    expected = torch.softmax(last_logits(model, [prompt], 10**6)[0].double() / 4, dim=-1)
    counts = Counter(row[0] if row else -1 for row in rows)
    often = [token for token in range(len(expected)) if expected[token] * n >= 8 and token in counts]
    observed = [counts[token] for token in often]
    wanted = [float(expected[token]) * n for token in often]
    observed, wanted = [*observed, n - sum(observed)], [*wanted, n - sum(wanted)]
    assert len(often) >= 5
    assert chisquare(observed, wanted).pvalue > 0.001


def test_the_same_numbers_draw_under_every_intervention(model):
    prompts = model.encode(PROMPTS)
    jobs = [(state, row) for state in range(2) for row in range(len(prompts))]
    ablated = DirectionalAblation(direction(model.sites.head.in_features))
    draws = drawn_for(PROMPTS)
    rows = [row for batch in generate_jobs(model, prompts, [None, ablated], jobs, N, 4, draws=draws) for row in batch]
    by_job = [row.tokens for row in sorted(rows, key=lambda row: row.row)]
    assert by_job[: len(prompts)] == answers(model, prompts, draws)
    assert by_job[len(prompts) :] != by_job[: len(prompts)]
    alone = [row for batch in generate(model, prompts, ablated, N, 3, draws=draws) for row in batch]
    assert by_job[len(prompts) :] == [row.tokens for row in sorted(alone, key=lambda row: row.row)]


def config_of(*overrides) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_object(compose("tiny", "smoke", overrides))


def test_a_models_own_temperature_is_what_ships_with_it(tmp_path):
    folder = configured(tiny(tmp_path / "m"), "generation_config.json", do_sample=True, temperature=0.6, top_p=0.9)
    config = config_of("generate.sampling=own", "generate.draw=2")
    model = opened(folder)
    assert sampling.record(config, model) == {
        "how": "sampled", "temperature": 0.6, "top_p": 0.9, "top_k": 0, "draw": 2,
    }  # fmt: skip
    found = sampling.draws(config, model, ["a"])
    assert found is not None
    assert found.sampling == Sampling(0.6, 0.9, 0)
    assert torch.equal(found.uniforms, uniforms(0, 2, ["a"], config.generate.max_new_tokens))
    stated = config_of("generate.sampling=own", "+model.sampling={temperature: 0.3, top_k: 7}")
    assert sampling.record(stated, model)["temperature"] == 0.3
    given = config_of("generate.sampling={temperature: 0.2}")
    assert sampling.record(given, model) == {
        "how": "sampled", "temperature": 0.2, "top_p": 1.0, "top_k": 0, "draw": 0,
    }  # fmt: skip
    assert sampling.record(config_of(), model) == {
        "how": "greedy", "temperature": None, "top_p": None, "top_k": None, "draw": None,
    }  # fmt: skip
    assert sampling.draws(config_of(), model, ["a"]) is None


@pytest.mark.parametrize("temperature", [None, 0, "hot"])
def test_a_model_without_a_temperature_of_its_own_is_refused(tmp_path, temperature):
    model = replace(opened(tiny(tmp_path / "m")), shipped={"temperature": temperature} if temperature != 0 else {})
    with pytest.raises(UserError, match=re.escape("write `sampling: {temperature: 0.7}` into conf/model/tiny.yaml")):
        sampling.draws(config_of(f"generate.sampling={OWN}"), model, ["a"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("generate.sampling=hot", "generate.sampling is 'hot': use own, or"),
        ("generate.sampling={top_p: 0.5}", "generate.sampling is {'top_p': 0.5}: use own, or"),
        ("generate.sampling={temperature: warm}", "use own, or"),
        ("generate.sampling={temperature: 0}", "sampling.temperature is 0: use a number above 0"),
        ("generate.sampling={temperature: 1, top_p: 1.5}", "sampling.top_p is 1.5: use a number above 0, at most 1"),
        ("generate.sampling={temperature: 1, top_k: -1}", "sampling.top_k is -1: use 0 (all tokens) or more"),
        ("generate.draw=-1", "generate.draw is -1: use 0 or more"),
        ("+model.sampling={temperature: -1}", "sampling.temperature is -1.0: use a number above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(override, said):
    with pytest.raises(UserError, match=re.escape(said)):
        config_of(override)
