"""Several runs together: shared prompts do not narrow an interval, and what lies between runs is found where it is."""

from typing import Any

import numpy as np
import pytest

from pipeline.maths.repeated import (
    between,
    chance_cosine,
    clustered_mean,
    clustered_rate,
    differences,
    prompt_means,
    sampling_variance,
    spread,
)
from pipeline.maths.statistics import rate

N_RUNS, N_PROMPTS, POOL = 5, 50, 80


def width(estimate):
    return estimate.high - estimate.low


def test_the_same_answers_again_narrow_nothing():
    rng = np.random.default_rng(0)
    run = {f"p{i}": float(rng.random() < 0.3) for i in range(N_PROMPTS)}
    once, again = clustered_rate([run]), clustered_rate([run] * N_RUNS)
    naive = rate([bool(value) for value in run.values()] * N_RUNS)
    assert again.value == pytest.approx(once.value)
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
    assert width(naive) < 0.55 * width(again), "as if each answer were another prompt"
    plain = rate([bool(value) for value in run.values()])
    assert (once.low, once.high) == pytest.approx((plain.low, plain.high), abs=0.005)
    means = clustered_mean([run]), clustered_mean([run] * N_RUNS)
    assert width(means[1]) == pytest.approx(width(means[0]), rel=0.1)


def test_other_prompts_each_time_narrow_it_as_they_should():
    rng = np.random.default_rng(1)
    runs = [{f"{run}-{i}": float(rng.random() < 0.3) for i in range(N_PROMPTS)} for run in range(N_RUNS)]
    found, naive = clustered_rate(runs), rate([bool(value) for run in runs for value in run.values()])
    assert found.n == N_RUNS * N_PROMPTS
    assert width(found) == pytest.approx(width(naive), rel=0.02)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_without_spread_counts_each_prompt_once(value):
    run = {f"p{i}": value for i in range(N_PROMPTS)}
    expected = rate([bool(value)] * N_PROMPTS)
    found = clustered_rate([run] * N_RUNS)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def planted(rng, between_sd=0.0, strength=0.0, base=0.5):
    """Runs of prompts from one pool, each prompt refused the more or less for what it is."""
    effects = rng.normal(0, strength, POOL)
    runs = []
    for _ in range(N_RUNS):
        chosen, shift = rng.choice(POOL, N_PROMPTS, replace=False), rng.normal(0, between_sd)
        chances = np.clip(base + effects[chosen] + shift, 0, 1)
        runs.append({f"p{i}": float(rng.random() < chance) for i, chance in zip(chosen, chances, strict=True)})
    return runs, np.clip(base + effects, 0, 1)


def test_intervals_by_prompt_hold_the_truth_where_those_by_answer_do_not():
    rng = np.random.default_rng(2)
    held = {"by prompt": 0, "by answer": 0}
    n = 400
    for _ in range(n):
        # Prompts are drawn anew each time from endlessly many, as test prompts are.
        chances = rng.beta(0.25, 0.75, N_PROMPTS)
        runs = [{f"p{i}": float(rng.random() < p) for i, p in enumerate(chances)} for _ in range(N_RUNS)]
        held["by prompt"] += clustered_rate(runs).holds(0.25)
        held["by answer"] += rate([bool(value) for run in runs for value in run.values()]).holds(0.25)
    assert held["by prompt"] / n >= 0.92
    assert held["by answer"] / n < 0.8


def test_nothing_between_runs_is_found_where_nothing_is():
    rng = np.random.default_rng(3)
    found: list[Any] = [between(planted(rng, 0.0, 0.3)[0]) for _ in range(300)]
    assert np.mean([each.sd.holds(0.0) for each in found]) >= 0.95, "a bound of 0 is one-sided"
    assert np.median([each.sd.value for each in found]) < 0.03


def test_what_lies_between_runs_is_found_where_it_is():
    rng = np.random.default_rng(4)
    found: list[Any] = [between(planted(rng, 0.15, 0.2)[0]) for _ in range(300)]
    variances = [each.sd.value**2 for each in found]
    assert np.mean(variances) == pytest.approx(0.15**2, rel=0.25)
    assert np.mean([each.sd.holds(0.15) for each in found]) >= 0.9
    assert np.median([each.share.value for each in found]) > 0.7
    assert all(0 <= each.share.low <= each.share.value <= each.share.high <= 1 for each in found)


def test_shared_prompts_are_counted_in_what_sampling_alone_would_do():
    rng = np.random.default_rng(5)
    observed, expected, without = [], [], []
    for _ in range(400):
        runs, _ = planted(rng, 0.0, 0.45)
        means = [np.mean(list(run.values())) for run in runs]
        observed.append(np.var(means, ddof=1))
        expected.append(sampling_variance(runs))
        without.append(np.mean([np.var(list(run.values()), ddof=1) / N_PROMPTS for run in runs]))
    assert np.mean(expected) == pytest.approx(np.mean(observed), rel=0.1)
    assert np.mean(without) > 1.3 * np.mean(observed), "as if no prompt were shared"


def test_what_cannot_be_said_is_not():
    run = {f"p{i}": float(i % 2) for i in range(10)}
    two = between([run, run])
    assert (two.sd.value, two.share.value) == (None, None)
    assert "needs 3" in two.sd.note
    same = between([run] * 3)
    assert (same.sd.value, same.sd.low, same.share.value) == (0.0, None, 0.0)
    assert spread([run]).sd is None


def test_sums_spread_and_differences_by_hand():
    runs = [{"a": 1.0, "b": 0.0}, {"a": 1.0, "c": 1.0}]
    assert prompt_means([*runs, {"b": 1.0}]) == {"a": 1.0, "b": 0.5, "c": 1.0}
    assert clustered_rate(runs).value == 0.75
    found = spread(runs)
    assert (found.low, found.high, found.sd, found.n) == (0.5, 1.0, pytest.approx(0.5 / 2**0.5), 2)
    assert differences(runs, {"a": 0.0, "c": 1.0}) == [{"a": 1.0}, {"a": 1.0, "c": 0.0}]


@pytest.mark.parametrize("d_model", [8, 896])
def test_a_cosine_by_chance_is_that_of_drawn_directions(d_model):
    vectors = np.random.default_rng(6).normal(size=(4000, 2, d_model))
    units = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    cosines = np.abs((units[:, 0] * units[:, 1]).sum(axis=1))
    assert np.mean(cosines <= chance_cosine(d_model)) == pytest.approx(0.95, abs=0.012)
