"""Tokens are drawn from the distribution that transformers' own warpers leave, by numbers of each prompt's own."""

import pytest
import torch
from scipy.stats import chisquare, kstest
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pipeline.maths.sampling import Draws, Sampling, candidates, drawn, next_tokens, uniforms

LOGITS = 1.2 * torch.randn((4, 50), generator=torch.Generator().manual_seed(0))
SETTINGS = [Sampling(0.7, 0.8, 20), Sampling(1.3, 0.9), Sampling(0.5, 1.0, 5), Sampling(2.0), Sampling(1.0, 1e-6)]


def by_library(logits, sampling):
    """Probabilities after the library's warpers, in its order."""
    scores = TemperatureLogitsWarper(sampling.temperature)(None, logits)  # type: ignore[arg-type]
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)  # type: ignore[arg-type]
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)  # type: ignore[arg-type]
    return torch.softmax(scores, dim=-1)


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_what_may_be_drawn_is_what_the_librarys_warpers_leave(sampling):
    shares, tokens = candidates(LOGITS, sampling)
    found = torch.zeros_like(LOGITS, dtype=torch.float64).scatter(1, tokens, shares)
    expected = by_library(LOGITS, sampling)
    torch.testing.assert_close((found / found.sum(dim=1, keepdim=True)).float(), expected)
    assert (found > 0).sum() < found.numel() or sampling == Sampling(2.0), "something is left out"


@pytest.mark.parametrize("sampling", SETTINGS[:4], ids=str)
def test_tokens_come_as_often_as_they_should(sampling):
    n = 20_000
    numbers = uniforms(0, 0, ["a prompt"], n)[0]
    tokens = drawn(LOGITS[:1].expand(n, -1), sampling, numbers)
    expected = by_library(LOGITS[:1], sampling)[0].double()
    counts = torch.bincount(tokens, minlength=50)
    assert counts[expected == 0].sum() == 0
    observed = counts[expected > 0].tolist()
    wanted = (n * expected[expected > 0] / expected.sum()).tolist()
    assert len(wanted) > 3
    assert min(wanted) > 5, "as the test needs it"
    assert chisquare(observed, wanted).pvalue > 0.001
    hotter = torch.softmax(LOGITS[0].double() / (1.2 * sampling.temperature), dim=-1)[expected > 0]
    assert chisquare(observed, (n * hotter / hotter.sum()).tolist()).pvalue < 1e-6, "another temperature is told apart"


def test_every_number_draws_a_token_that_may_come():
    sampling = Sampling(0.7, 0.8, 20)
    edges = torch.tensor([0.0, 1 - 2**-24])
    shares, _ = candidates(LOGITS[:1], sampling)
    first, last = drawn(LOGITS[:1].expand(2, -1), sampling, edges)
    order = LOGITS[0].argsort(descending=True).tolist()
    assert first == LOGITS[0].argmax()
    assert order.index(int(last)) == int((shares > 0).sum()) - 1


def test_a_number_at_the_edge_draws_the_token_above_it():
    even = torch.zeros((3, 4))
    order = candidates(even[:1], Sampling(1.0))[1][0].tolist()
    tokens = drawn(even, Sampling(1.0), torch.tensor([0.0, 0.25, 0.75 - 2**-24]))
    assert [order.index(token) for token in tokens.tolist()] == [0, 1, 2]


def test_a_low_temperature_is_greedy_and_a_high_one_is_not():
    numbers = uniforms(0, 0, ["a", "b", "c", "d"], 1)
    assert next_tokens(LOGITS, Draws(Sampling(1e-4), numbers), range(4), 0).tolist() == LOGITS.argmax(1).tolist()
    assert next_tokens(LOGITS, Draws(Sampling(5.0), numbers), range(4), 0).tolist() != LOGITS.argmax(1).tolist()


def test_numbers_are_of_the_seed_the_draw_and_the_prompt_alone():
    both = uniforms(0, 0, ["a", "b"], 6)
    assert torch.equal(uniforms(0, 0, ["b"], 6)[0], both[1]), "not of what else is asked"
    assert torch.equal(uniforms(0, 0, ["a"], 3)[0], both[0, :3]), "nor of how many tokens there may be"
    others = [uniforms(1, 0, ["a"], 6), uniforms(0, 1, ["a"], 6), both[1:]]
    assert not any(torch.isclose(other, both[:1]).any() for other in others)
    many = uniforms(0, 0, [f"prompt {i}" for i in range(500)], 20)
    assert many.min() >= 0
    assert many.max() < 1
    assert kstest(many.flatten().numpy(), "uniform").pvalue > 0.001
    assert abs(torch.corrcoef(many.T).fill_diagonal_(0)).max() < 0.2, "one token's number says nothing of the next"
    assert uniforms(0, 0, [], 3).shape == (0, 3)
