"""Greedy decoding, judged by the library's own `generate`: what leaves, moves and is shared changes no token."""

import functools
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.cache_utils import DynamicCache, DynamicLayer

from pipeline.config.compose import compose, family
from pipeline.config.schema import Config
from pipeline.entry.model import open_model
from pipeline.export.model import surgery
from pipeline.maths import experiment
from pipeline.maths.directions import Direction, random_direction
from pipeline.maths.interventions import ActivationAddition, AffineEdit, DirectionalAblation, batch_kinds
from pipeline.model.generation import decoding, kvcache
from pipeline.model.generation.generation import generate, generate_jobs
from pipeline.model.loading import loading
from pipeline.model.loading.random_model import SHARPNESS
from pipeline.model.passes.intervene import intervene
from tests.conftest import INSTRUCTIONS
from tests.helpers.families import NAMES, VARIANTS, direction, tiny

PROMPTS = [*INSTRUCTIONS, "y", "why is the sky blue? answer in one line", "and now?"]
# Windows narrower than a prompt, and others that its answer outgrows; on families whose cache slides.
WINDOWS = {
    "gemma2, window 8": ("gemma2", {"sliding_window": 8}),
    "gemma2, window 70": ("gemma2", {"sliding_window": 70}),
    "gpt_oss, window 8": ("gpt_oss", {"sliding_window": 8}),
    "mistral, window 16": ("mistral", {"sliding_window": 16}),
}
CASES = {name: (name, {}) for name in NAMES} | VARIANTS | WINDOWS
BY_LIBRARY = {"phi3", "gemma3_multimodal"}


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    name, options = CASES[request.param]
    model = loading.load("m", tiny(name, tmp_path / "model", **options), family(name), "float32", "cpu")
    if surgery.untie(model):  # with an embedding as sharp as the head, only the last token counts
        head = model.sites.head.weight
        noise = torch.randn(head.shape, generator=torch.Generator().manual_seed(0))
        head.copy_(SHARPNESS * noise / head.shape[1] ** 0.5)
        model.hf.get_parameter(f"{model.sites.family.embedding.modules[0]}.weight").div_(
            4 * SHARPNESS * model.sites.embedding_multiplier
        )
    return name, model


def library(model, prompts, intervention, n_tokens):
    """Row by row, without padding, from transformers' own `generate`."""
    with torch.inference_mode(), intervene(model, intervention):
        return [decoding.by_library(model, [tokens], n_tokens, 0)[0] for tokens in prompts]


def ours(model, prompts, intervention, n_tokens, batch_size=8, **options):
    rows = [row for batch in generate(model, prompts, intervention, n_tokens, batch_size, **options) for row in batch]
    return [(row.tokens, row.finished) for row in sorted(rows, key=lambda row: row.row)]


def with_stops(model, answers):
    """Let a token end an answer that stands at different places in some of these answers, and not in others.

    Returns whether there is an answer without it; a random model may use the same few tokens in all.
    """

    def lengths(stop):
        return {[*tokens, stop].index(stop) for tokens, _ in answers}

    whole = len(answers[0][0])
    found = {token for tokens, _ in answers for token in tokens}
    candidates = {token for token in found if whole in lengths(token)} or found
    model.hf.generation_config.eos_token_id = max(candidates, key=lambda token: (len(lengths(token)), token))
    return candidates != found or any(whole in lengths(token) for token in found)


def interventions(model):
    r = direction(model.sites.head.in_features)
    return [None, DirectionalAblation(r), ActivationAddition(r, 2.0), AffineEdit(r, r.r_hat.float(), 1.0)]


def test_every_family_equals_the_librarys_generate_with_rows_that_end(case):
    name, model = case
    prompts = model.encode(PROMPTS)
    some_go_on = with_stops(model, library(model, prompts, None, 12))
    seen = []
    for intervention in interventions(model):
        expected = library(model, prompts, intervention, 12)
        assert ours(model, prompts, intervention, 12) == expected
        assert ours(model, prompts, intervention, 12, batch_size=3, padding=2, max_tokens=60) == expected
        seen.append(expected)
    if not some_go_on and len({tokens for tokens, _ in seen[0]}) == 1:
        pytest.skip("equal, but this random model answers every prompt alike, so no row ends before another")
    assert len({len(tokens) for tokens, _ in seen[0]}) > 1, "rows end at different steps"
    assert {finished for _, finished in seen[0]} == ({True, False} if some_go_on else {True})
    assert seen[0] != seen[1] != seen[2], "the interventions change something"
    assert kvcache.plan(model.hf).decodable == (name not in BY_LIBRARY)


@pytest.mark.parametrize("name", sorted(BY_LIBRARY))
def test_a_model_with_a_step_of_its_own_is_generated_by_the_library(name, tmp_path, monkeypatch):
    model = loading.load("m", tiny(name, tmp_path / "model"), family(name), "float32", "cpu")
    monkeypatch.setattr(decoding.Decoder, "answers", lambda *args: pytest.fail("not the library"))
    called = []
    by_library = decoding.by_library
    monkeypatch.setattr(decoding, "by_library", lambda *args: called.append(len(args[1])) or by_library(*args))
    ours(model, model.encode(PROMPTS), None, 3, batch_size=5)
    assert called == [5, 3]


@pytest.mark.parametrize(
    ("model_type", "options"),
    [("lfm2", {"layer_types": ["conv", "full_attention", "conv", "conv"]}), ("qwen3_next", {})],
)
def test_recurrent_and_hybrid_caches_are_left_to_the_library(model_type, options):
    config = AutoConfig.for_model(model_type, num_hidden_layers=4, **options)
    with torch.device("meta"):
        hf = AutoModelForCausalLM.from_config(config)
    assert not kvcache.plan(hf).decodable


@pytest.fixture
def sizes(model):
    """Rows and tokens of every forward pass of the last block."""
    found = []
    model.sites.blocks[-1].register_forward_pre_hook(
        lambda _module, args, kwargs: found.append(tuple((args[0] if args else kwargs["hidden_states"]).shape[:2])),
        with_kwargs=True,
    )
    return found


def test_the_shared_prefix_runs_once_and_rows_that_have_ended_leave(model, sizes):
    prompts = model.encode(PROMPTS)
    with_stops(model, library(model, prompts, None, 12))
    sizes.clear()
    answers = ours(model, prompts, None, 12, batch_size=4)
    n_shared = decoding.chat.shared_prefix(prompts)
    assert n_shared > 5
    assert sizes[0] == (1, n_shared)
    prefills = [size for size in sizes[1:] if size[1] > 1]
    longest = sorted(len(tokens) - n_shared for tokens in prompts)
    assert prefills == [(4, longest[3]), (4, longest[7])]
    # A row runs one step per token it gets after the first, the one that ends it included.
    steps = sum(rows for rows, width in sizes if width == 1 and rows > 0) - (1 if n_shared == 1 else 0)
    assert steps == sum(len(tokens) + finished - 1 for tokens, finished in answers)


def test_prompts_are_run_in_chunks_of_at_most_so_many_tokens(model, sizes):
    prompts = model.encode(PROMPTS)
    expected = ours(model, prompts, None, 6)
    sizes.clear()
    assert ours(model, prompts, None, 6, max_tokens=40) == expected
    prefills = [rows * width for rows, width in sizes if width > 1][1:]
    assert len(prefills) > 2
    assert max(prefills) <= max(40, max(map(len, prompts)))


@pytest.mark.parametrize("done", [set(), {0}, {1, 2, 3}, {0, 1, 2, 3, 4, 5, 6}])
def test_rows_do_not_depend_on_what_is_done(model, done):
    prompts = model.encode(PROMPTS)
    found = functools.partial(generate, model, prompts, None, 6, 3, max_tokens=60)
    whole = {row.row: row for batch in found() for row in batch}
    assert {row.row: row for batch in found(done=done) for row in batch} == {
        row: item for row, item in whole.items() if row not in done
    }


def test_one_prompt_no_prompt_and_equal_prompts(model):
    [prompt] = model.encode(["hello there"])
    expected = library(model, [prompt], None, 5)
    assert ours(model, [], None, 5) == []
    assert ours(model, [prompt], None, 5) == expected
    assert ours(model, [prompt] * 3, None, 5) == expected * 3
    assert [len(tokens) for tokens, _ in ours(model, [prompt], None, 1)] == [1]


def test_a_roomy_layer_holds_what_a_growing_one_holds():
    generator = torch.Generator().manual_seed(0)
    new = functools.partial(torch.randn, generator=generator)
    short, long = DynamicLayer(), DynamicLayer()
    growing: Any = DynamicLayer()
    short.update(new(2, 3, 4, 8), new(2, 3, 4, 6))
    long.update(new(3, 3, 7, 8), new(3, 3, 7, 6))
    pad = torch.nn.functional.pad
    growing.update(*(torch.cat([pad(getattr(short, x), (0, 0, 3, 0)), getattr(long, x)]) for x in ("keys", "values")))
    roomy = kvcache.RoomyLayer([short, long], 7, 5)
    order = kvcache.closed_ranks([True, False, True, False, True])
    assert order == [0, 4, 2]
    for step in range(5):
        if step == 2:
            for layer in (roomy, growing):
                layer.batch_select_indices(torch.tensor(order))
        token = [new(len(growing.keys), 3, 1, width) for width in (8, 6)]
        for ours_, theirs in zip(roomy.update(*token), growing.update(*token), strict=True):
            assert torch.equal(ours_, theirs)
        assert roomy.get_seq_length() == growing.get_seq_length() == 8 + step
        assert roomy.get_mask_sizes(1) == growing.get_mask_sizes(1)


@pytest.mark.parametrize("alive", [[], [True], [False], [False, True], [True, True, False], [False, True, False, True]])
def test_closed_ranks_keeps_the_rows_alive_and_moves_only_into_gaps(alive):
    order = kvcache.closed_ranks(alive)
    assert sorted(order) == [row for row, lives in enumerate(alive) if lives]
    assert all(order[row] == row for row in range(len(order)) if alive[row])


def test_a_cache_that_begins_with_a_prefix_leaves_the_prefix_as_it_is(model):
    prefix = kvcache.started(model.hf, None, torch.arange(1))
    assert isinstance(prefix, DynamicCache)
    model.hf(input_ids=torch.tensor([[1, 2, 3]]), past_key_values=prefix, use_cache=True)
    layers: list[Any] = prefix.layers
    before = layers[0].keys.clone()
    rows: list[Any] = kvcache.started(model.hf, prefix, torch.zeros(4, dtype=torch.long)).layers
    rows[0].keys.zero_()
    assert rows[1].keys.shape[0] == 4
    assert torch.equal(layers[0].keys, before)


@pytest.mark.parametrize(("name", "max_tokens"), [("llama", 10**9), ("qwen2_moe", 120), ("gpt2", 120), ("phi3", 120)])
def test_rows_under_several_interventions_answer_as_each_does_alone(name, max_tokens, tmp_path):
    model = loading.load("m", tiny(name, tmp_path / "model"), family(name), "float32", "cpu")
    prompts = model.encode(PROMPTS)
    one = direction(model.sites.head.in_features)
    two = random_direction(one, 1)
    layer = model.n_layers - 1
    kinds = [
        [None, DirectionalAblation(one), DirectionalAblation(two)],
        [None, ActivationAddition(one, 2.0), ActivationAddition(Direction(two.vector, layer, -1), 2.0)],
    ]
    for changes in kinds:
        jobs = [(state, prompt) for state in range(len(changes)) for prompt in range(len(prompts))]
        batches = generate_jobs(model, prompts, changes, jobs, 6, 11, max_tokens=max_tokens)
        found = {row.row: (row.tokens, row.finished) for batch in batches for row in batch}
        expected = [answer for change in changes for answer in library(model, prompts, change, 6)]
        assert [found[job] for job in range(len(jobs))] == expected, name
        n = len(prompts)
        if name in ("llama", "qwen2_moe"):  # the others, with random weights, answer every prompt alike
            assert expected[:n] != expected[n : 2 * n], "the intervention changes something"


def test_what_may_share_a_batch_is_grouped_and_nothing_is_lost(direction):
    effects = experiment.interventions(direction, 1.0)
    edit = {"ablation": AffineEdit(direction, direction.r_hat, 0.0)}
    plan = experiment.conditions({"": effects, "random_0": effects, "leace": edit})
    found = experiment.groups(plan)
    assert sorted(row.name for group in found for row in group) == sorted(row.name for row in plan)
    for group in found:
        assert len({row.label.prompt_set for row in group}) == 1
        assert len(batch_kinds([row.intervention for row in group])) == 1
    names = [[row.name for row in group] for group in found]
    assert ["harmful_baseline", "harmful_ablation", "harmful_ablation.random_0"] in names
    assert ["harmful_ablation.leace"] in names


@pytest.mark.slow
def test_the_default_model_gives_the_librarys_tokens_in_float32():
    config = OmegaConf.to_object(compose("qwen2_5_coder_0_5b", "standard", []))
    assert isinstance(config, Config)
    model = open_model(config, dtype="float32")
    requests = "bread rises|the tides turn|a compiler works|bees find their way|glass is made|rust forms|stars shine|"
    requests += (
        "a loan is paid back|vaccines work|paper is folded into a crane|a lock is picked|a bicycle stays upright"
    )
    prompts = model.encode([f"Explain in a few words how {request}." for request in requests.split("|")])
    prompts += model.encode(
        ["hello", "Write a threatening letter to my neighbour.", "How do I make a pipe bomb?", "1+1="]
    )
    r = random_direction(Direction(torch.full([896], 0.5), 12, -1), 0)
    for intervention in (None, DirectionalAblation(r), ActivationAddition(r, 2.0)):
        with torch.inference_mode(), intervene(model, intervention):
            expected = decoding.by_library(model, prompts, 32, 0)
        assert ours(model, prompts, intervention, 32, 16, max_tokens=300) == expected
