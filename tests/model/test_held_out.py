"""Directions on test prompts: subtraction against the plain way, batches by what they hold, and work that adds up."""

import pytest
import torch
from torch.testing import assert_close

from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition
from pipeline.maths.metrics import refusal_metric
from pipeline.model.chat import chat
from pipeline.model.passes import held_out, scoring
from pipeline.model.passes.forward import all_logits
from pipeline.model.passes.intervene import intervene
from pipeline.progress import progress
from tests.conftest import INSTRUCTIONS

TOKENS = torch.arange(0, 250, 2)


@pytest.fixture
def prompts(model):
    encoded = chat.encode(model.tokenizer, INSTRUCTIONS)
    return encoded[:2], encoded[2:]


def directions():
    vectors = 3 * torch.randn(5, 32, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return {f"random_{index}": Direction(vector, 1 + index % 2, -1) for index, vector in enumerate(vectors)}


@pytest.mark.parametrize("max_tokens", [60, 10_000])
def test_every_score_is_that_of_the_direction_alone(model, prompts, max_tokens):
    validation, found = scoring.prepare(model, prompts[0], prompts[1], TOKENS, max_tokens), directions()
    with progress("test", 1) as bar:
        scores = held_out.scores(model, validation, found, 1.0, max_tokens, bar)
    assert list(scores) == list(found)
    for name, direction in found.items():
        with intervene(model, ActivationAddition(direction, -1.0)):
            logits = torch.stack([all_logits(model, tokens)[-1] for tokens in prompts[0]])
        subtracted = refusal_metric(logits, TOKENS)
        assert (subtracted - validation.harmful_metric).abs().max() > 0.01, "there is something to compare"
        assert_close(torch.tensor(scores[name]["subtraction"], dtype=torch.float64), subtracted, atol=2e-4, rtol=1e-4)
        alone = scoring.score_direction(model, direction, validation, 1.0, max_tokens)
        for key in ("bypass", "induce", "kl"):
            rows = [torch.tensor(values, dtype=torch.float64) for values in (scores[name][key], getattr(alone, key))]
            assert_close(*rows, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(("held", "sizes"), [(0.5, [1] * 5), (2.5, [2, 2, 1]), (9.0, [5])])
def test_a_group_holds_as_many_directions_as_a_batch_and_its_work_is_what_it_runs(model, prompts, held, sizes):
    work, found = scoring.Work.of(model, prompts[0], prompts[1]), directions()
    largest = max(work.directions([direction]) for direction in found.values())
    groups = held_out.groups(found, work, int(held * largest))
    assert [len(group) for group in groups] == sizes
    assert {name: direction for group in groups for name, direction in group.items()} == found
    validation = scoring.prepare(model, prompts[0], prompts[1], TOKENS, 60)
    with progress("test", sum(held_out.tokens(group, work) for group in groups)) as bar:
        for group in groups:
            held_out.scores(model, validation, group, 1.0, 60, bar)
    assert bar.done == pytest.approx(bar.whole)
