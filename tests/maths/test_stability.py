"""Stability on data whose answer is known, and what changes between two sets of answers."""

import math

import numpy as np
import pytest
import torch

from pipeline.maths import stability
from pipeline.maths.invariance import FirstToken, changes, first_difference
from pipeline.maths.selection import PromptScores, Thresholds, select, thresholds_for


def choose(scores, baselines):
    return select(scores, thresholds_for("paper", 10), "paper")


def scores(bypass, induce=1.0, kl=0.01, n=20, noise=0.0, seed=0):
    draws = np.random.default_rng(seed).normal(0, noise, n)
    return PromptScores(tuple((bypass + draws).tolist()), (induce,) * n, (kl,) * n)


def test_a_candidate_that_is_better_on_every_prompt_always_wins():
    candidates = {(-1, 3): scores(-5), (-1, 4): scores(-3), (-2, 0): None}
    wins = stability.win_counts(candidates, [2.0] * 20, [-4.0] * 20, choose, 100, seed=0)
    assert wins == {(-1, 3): 100}


def test_two_equal_candidates_share_the_wins():
    candidates = {(-1, 3): scores(-5, noise=1, seed=1), (-1, 4): scores(-5, noise=1, seed=2)}
    gap = float(np.mean(candidates[-1, 3].bypass) - np.mean(candidates[-1, 4].bypass))
    candidates[-1, 4] = PromptScores(
        tuple(value + gap for value in candidates[-1, 4].bypass), candidates[-1, 4].induce, candidates[-1, 4].kl
    )
    wins = stability.win_counts(candidates, [2.0] * 20, [-4.0] * 20, choose, 1000, seed=0)
    assert wins[-1, 3] == pytest.approx(500, abs=60)
    assert wins == stability.win_counts(candidates, [2.0] * 20, [-4.0] * 20, choose, 1000, seed=0)


def test_draws_without_a_choice_are_counted():
    kl = tuple([0.05] * 10 + [0.15] * 10)
    candidates = {(-1, 3): PromptScores((-5.0,) * 20, (1.0,) * 20, kl)}
    wins = stability.win_counts(candidates, [2.0] * 20, [-4.0] * 20, choose, 1000, seed=0)
    # The mean of kl is above its limit of 0.1 when more than 10 of 20 draws are high: binomial(20, 1/2).
    above = sum(math.comb(20, k) for k in range(11, 21)) / 2**20
    assert wins[None] / 1000 == pytest.approx(above, abs=0.05)


def test_a_candidate_that_is_not_finite_never_wins():
    candidates = {(-1, 3): PromptScores((math.nan,) * 20, (1.0,) * 20, (0.01,) * 20), (-1, 4): scores(-3)}
    assert stability.win_counts(candidates, [2.0] * 20, [-4.0] * 20, choose, 50, seed=0) == {(-1, 4): 50}


def test_margins_are_above_zero_inside_and_leave_out_what_is_not_bounded():
    found = stability.margins(scores(-3, induce=0.5, kl=0.12), Thresholds(0.1, 0.0, math.inf, 8))
    assert set(found) == {"kl", "induce"}
    assert found["kl"].value == pytest.approx(-0.02)
    assert found["induce"].value == pytest.approx(0.5)


def test_halves_of_a_strong_direction_agree_and_of_none_do_not():
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(80, 64, generator=generator) for _ in range(2)]
    shift = torch.zeros(64)
    shift[0] = 10.0
    strong = stability.split_half_cosines(noise[0] + shift, noise[1], 50, seed=0)
    weak = stability.split_half_cosines(noise[0], noise[1], 50, seed=0)
    assert min(strong) > 0.9
    assert abs(np.mean(weak)) < 0.2
    control = stability.split_half_cosines(noise[0] + shift, noise[1], 50, seed=0, shuffled=True)
    assert abs(np.mean(control)) < 0.2
    # Expected: |shift|^2 over |shift|^2 + the halves' noise, d * (1/40 + 1/40).
    assert np.mean(strong) == pytest.approx(100 / (100 + 64 * 2 / 40), abs=0.02)


def test_subsets_grow_towards_the_whole_and_leave_out_sizes_that_are_not_there():
    generator = torch.Generator().manual_seed(0)
    harmful = torch.randn(40, 32, generator=generator) + 0.5
    harmless = torch.randn(50, 32, generator=generator)
    found = stability.subsets(harmful, harmless, [2, 8, 32, 40, 64], 10, seed=0)
    assert [subset.n for subset in found] == [2] * 10 + [8] * 10 + [32] * 10
    means = [np.mean([subset.cosine for subset in found if subset.n == n]) for n in (2, 8, 32)]
    assert means == sorted(means)
    assert means[2] > 0.95


def test_cosine_of_nothing_is_zero():
    assert stability.cosine(torch.zeros(3).double(), torch.ones(3).double()) == 0
    assert stability.cosine(torch.ones(3).double(), -2 * torch.ones(3).double()) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("other", "place"), [((1, 2, 3), None), ((1, 9, 3), 1), ((1, 2), 2), ((1, 2, 3, 4), 3), ((), 0)]
)
def test_completions_part_at_the_first_token_that_differs(other, place):
    assert first_difference((1, 2, 3), other) == place


def test_answers_that_do_not_change_part_nowhere():
    assert changes([(1, 2)], [(1, 2)], [True], [True]).first_token is None


def test_changes_are_counted_with_their_verdicts():
    found = changes([(1, 2), (3,), (4, 5)], [(1, 2), (7,), (4, 6)], [True, False, None], [True, True, False])
    assert (found.completions.value, found.completions.n) == (pytest.approx(2 / 3), 3)
    assert found.first_token == FirstToken(median=1.5, first=1, last=2, n=2)
    assert found.verdicts.value == pytest.approx(2 / 3)
