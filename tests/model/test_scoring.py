"""The sweep against the plain way: one prompt at a time, whole, no cache, no padding, every layer run."""

import functools

import pytest
import torch
from torch.testing import assert_close

from pipeline.config.compose import family
from pipeline.disk.steps import Steps
from pipeline.export import families
from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition, AffineEdit, DirectionalAblation
from pipeline.maths.metrics import kl_divergence, refusal_metric
from pipeline.maths.selection import PromptScores
from pipeline.model.chat import chat
from pipeline.model.loading import loading
from pipeline.model.loading.random_model import write_random_model
from pipeline.model.passes import partial_forward, scoring
from pipeline.model.passes.forward import Split, Start, all_logits, last_logits, run_jobs, unchanged
from pipeline.model.passes.intervene import intervene
from pipeline.model.passes.sweep import measured, n_tokens
from pipeline.progress import progress
from tests.conftest import INSTRUCTIONS

TOKENS = torch.arange(0, 250, 2)  # half of the vocabulary: whatever the model says, some of it is here
# float32 through a few blocks: logits of order ten move by about 1e-5, scores are logarithms of them.
assert_near = functools.partial(assert_close, atol=2e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def tiny_of(tmp_path_factory):
    @functools.cache
    def load(name):
        described, folder = family(name), tmp_path_factory.mktemp(name)
        write_random_model(folder, described.tiny["model_type"], 0, described.tiny["options"])
        return loading.load(name, folder, described, "float32", "cpu")

    return load


def directions(width, n, layers=4):
    generator = torch.Generator().manual_seed(7)
    vectors = 3 * torch.randn(n, width, generator=generator, dtype=torch.float64)
    return [Direction(vector, index % layers, -1 - index // layers) for index, vector in enumerate(vectors)]


def plainly(model, intervention, prompts):
    with intervene(model, intervention):
        return torch.stack([all_logits(model, tokens)[-1] for tokens in prompts])


def plain_scores(model, ablation, addition, harmful, harmless):
    ablated = plainly(model, ablation, [*harmful, *harmless])
    return PromptScores(
        bypass=tuple(refusal_metric(ablated[: len(harmful)], TOKENS).tolist()),
        induce=tuple(refusal_metric(plainly(model, addition, harmless), TOKENS).tolist()),
        kl=tuple(kl_divergence(plainly(model, None, harmless), ablated[len(harmful) :]).tolist()),
    )


def assert_scores(found, expected):
    for name in ("bypass", "induce", "kl"):
        assert_near(torch.tensor(getattr(found, name)), torch.tensor(getattr(expected, name)))


@pytest.mark.parametrize("name", families.names())
@pytest.mark.parametrize("max_tokens", [40, 10_000])
def test_scores_of_many_directions_in_one_batch_equal_those_found_plainly(tiny_of, name, max_tokens):
    model = tiny_of(name)
    prompts = chat.encode(model.tokenizer, INSTRUCTIONS)
    harmful, harmless = prompts[:2], prompts[2:]
    validation = scoring.prepare(model, harmful, harmless, TOKENS, max_tokens)
    found = directions(32, 6)
    expected = [
        plain_scores(model, DirectionalAblation(each), ActivationAddition(each, 1.0), harmful, harmless)
        for each in found
    ]
    moved = torch.tensor(expected[0].bypass) - validation.harmful_metric
    assert moved.abs().max() > 0.01, "the effect is there to be compared"
    assert len({scores.bypass for scores in expected}) == len(found)
    for scores, wanted in zip(
        scoring.score_directions(model, found, validation, 1.0, max_tokens), expected, strict=True
    ):
        assert_scores(scores, wanted)
    for direction, wanted in zip(found[2:4], expected[2:4], strict=True):
        assert_scores(scoring.score_direction(model, direction, validation, 1.0, max_tokens), wanted)


def test_an_affine_edit_scores_as_it_does_plainly(model):
    prompts = chat.encode(model.tokenizer, INSTRUCTIONS)
    generator = torch.Generator().manual_seed(2)
    u, readout = torch.randn(2, 32, generator=generator, dtype=torch.float64)
    out, into = (AffineEdit(Direction(u / (u @ readout), 2, -1), readout, target) for target in (-1.0, 3.0))
    validation = scoring.prepare(model, prompts[:2], prompts[2:], TOKENS, 60)
    assert_scores(
        scoring.score(model, out, into, validation, 60), plain_scores(model, out, into, prompts[:2], prompts[2:])
    )


def test_starting_at_a_layer_runs_no_block_below_it_and_leaves_the_model_as_it_was(model):
    prompts = chat.encode(model.tokenizer, INSTRUCTIONS)
    split = Split.of(model, prompts)
    plain, states = unchanged(model, split, 60)
    assert_near(plain, plainly(model, None, prompts))
    ran = []
    for layer, block in enumerate(model.sites.blocks):
        block.input_layernorm.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
    jobs = [(0, prompt) for prompt in range(len(prompts))]
    rows = run_jobs(model, split, jobs, 60, lambda logits, _: logits, start=Start(2, states))
    assert set(ran) == {2, 3}
    assert_near(torch.stack(rows), plain)
    assert_near(last_logits(model, prompts, 60), plain)
    assert set(ran) == {0, 1, 2, 3}


def test_mlps_see_no_padding_and_the_last_only_what_is_read(model):
    prompts = chat.encode(model.tokenizer, INSTRUCTIONS)
    padded = chat.pad_left(prompts, model.pad_id)
    seen = []
    for block in model.sites.blocks:
        block.mlp.act_fn.register_forward_hook(lambda _m, _a, out: seen.append(out.shape[1]))
    with torch.inference_mode(), partial_forward.only_needed(model.sites, padded.attention_mask.bool()):
        model.hf(**padded.inputs(model.hf), logits_to_keep=1)
    n_real = sum(map(len, prompts))
    assert n_real < padded.input_ids.numel()
    assert seen == [n_real, n_real, n_real, len(prompts)]


def test_a_sweep_that_was_interrupted_goes_on_and_scores_the_same(model, tmp_path, monkeypatch):
    prompts = chat.encode(model.tokenizer, INSTRUCTIONS)
    validation = scoring.prepare(model, prompts[:2], prompts[2:], TOKENS, 600)
    found = {(each.position, each.layer): each for each in directions(32, 6)}
    scored, plain = [], scoring.score_directions
    monkeypatch.setattr(scoring, "score_directions", lambda *a: scored.append(len(a[1])) or plain(*a))

    def sweep(path):
        with progress("candidates x prompts", n_tokens(scoring.Work(model, validation.split, 2), found, 600)) as bar:
            scores = measured(model, validation, found, 1.0, 600, Steps(path), bar)
        assert bar.done == pytest.approx(bar.whole)
        return scores

    whole = sweep(tmp_path / "whole.jsonl")
    assert list(whole) == list(found)
    assert max(scored) > 1, "several candidates share a batch"
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "torn.jsonl").write_bytes(b"".join(lines[: scored[0]]) + lines[scored[0]][:-9])
    n_batches = len(scored)
    assert sweep(tmp_path / "torn.jsonl") == whole
    assert len(scored) - n_batches == n_batches - 1
    assert (tmp_path / "torn.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
