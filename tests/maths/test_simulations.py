"""What intervals and tests promise, by simulation: each way that was tried before fails beside the one in use."""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline.maths import statistics
from pipeline.maths.comparisons import ALPHA, BACK, compare, compare_control, compare_family, power, smallest_change
from pipeline.maths.statistics import LEAST_FOR_INTERVAL

SAMPLES = 4000
FEW = 0.91  # a promised 95 % that is no less


def minority(generator, shape, share):
    """0 for most rows, 5 for a share of them, and noise."""
    return np.where(generator.random(shape) < share, 5.0, 0.0) + generator.normal(0, 0.3, shape)


ROWS = {  # rows, and their mean
    "normal": (lambda g, shape: g.normal(0, 1, shape), 0.0),
    "right-skewed": (lambda g, shape: g.lognormal(0, 1, shape), math.exp(0.5)),
    "left-skewed": (lambda g, shape: -g.lognormal(0, 1, shape), -math.exp(0.5)),
    "exponential": (lambda g, shape: g.exponential(1, shape), 1.0),
    "heavy on both sides": (lambda g, shape: g.standard_t(3, shape), 0.0),
    "a tenth": (lambda g, shape: minority(g, shape, 0.1), 0.5),
    "a fifth": (lambda g, shape: minority(g, shape, 0.2), 1.0),
}


@cache
def samples(kind, n):
    draw, truth = ROWS[kind]
    return draw(np.random.default_rng([n, sorted(ROWS).index(kind)]), (SAMPLES, n)), truth


def covered(kind, n):
    """How often the interval in use holds the mean; that `mean` gives this interval is tested apart."""
    rows, truth = samples(kind, n)
    low, high = statistics.skewed_interval(rows)
    return np.mean((low <= truth) & (truth <= high))


@cache
def percentile(kind, n, resamples=400):
    """How often the percentile bootstrap of the mean holds it."""
    (rows, truth), generator, held = samples(kind, n), np.random.default_rng(0), 0
    for row in rows[:600]:
        means = row[generator.integers(n, size=(resamples, n))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        held += low <= truth <= high
    return held / 600


@pytest.mark.parametrize(
    ("kind", "n"),
    [
        *((kind, n) for kind in ("normal", "right-skewed", "left-skewed", "exponential") for n in (15, 16, 32, 100)),
        *(("heavy on both sides", n) for n in (16, 32, 100)),
        *(("a tenth", n) for n in (31, 32, 100)),
        *(("a fifth", n) for n in (16, 32)),
    ],
)
def test_the_interval_of_a_mean_holds_it_nearly_as_often_as_it_says(kind, n):
    assert FEW <= covered(kind, n) <= 0.99


def test_a_mean_has_that_interval():
    rows = samples("right-skewed", 16)[0][:5]
    low, high = statistics.skewed_interval(rows)
    found = [statistics.mean(row) for row in rows.tolist()]
    assert [row.low for row in found] == pytest.approx(low)
    assert [row.high for row in found] == pytest.approx(high)


@pytest.mark.parametrize(
    ("kind", "n"), [("right-skewed", 16), ("right-skewed", 32), ("left-skewed", 16), ("exponential", 15)]
)
def test_the_percentile_bootstrap_does_not(kind, n):
    assert percentile(kind, n) < FEW - 0.01
    assert covered(kind, n) > percentile(kind, n) + 0.03


def test_eight_skewed_rows_have_their_range_and_no_interval():
    assert percentile("right-skewed", 8) < 0.85
    few = statistics.mean(samples("right-skewed", 8)[0][0].tolist())
    assert (few.low, few.high) == (None, None)
    assert few.note.startswith("8 rows: from ")
    assert LEAST_FOR_INTERVAL == 15


def test_a_tenth_of_sixteen_rows_defeats_every_interval():
    rows, _ = samples("a tenth", 16)
    unseen = np.mean((rows < 2.5).all(axis=1))
    assert unseen == pytest.approx(0.9**16, abs=0.03), "a fifth of the samples has none of the tenth"
    assert covered("a tenth", 16) < 1 - unseen + 0.01
    assert percentile("a tenth", 16) < 1 - unseen + 0.01


def test_the_log_scale_holds_the_mean_of_positive_rows_less_often():
    rows, truth = samples("right-skewed", 16)
    middle, error = rows.mean(axis=1), rows.std(axis=1, ddof=1) / 4
    reach = np.exp(stats.t.ppf(0.975, 15) * error / middle)
    on_log_scale = np.mean((middle / reach <= truth) & (truth <= middle * reach))
    assert on_log_scale < FEW - 0.005
    assert covered("right-skewed", 16) > on_log_scale + 0.01
    rare = [0.01 * n for n in range(1, 16)] + [9.0]
    assert (statistics.mean(rare).low or 0) < 0 == statistics.mean(rare, least=0.0).low, "a KL is never below 0"


@pytest.mark.parametrize("n", [16, 32])
def test_a_ratio_over_skewed_documents_is_held_more_often_than_by_resampled_ones(n):
    generator, held, before = np.random.default_rng(n), 0, 0
    for _ in range(500):
        counts = generator.integers(20, 200, n)
        sums = counts * generator.lognormal(0, 1, n)
        held += statistics.ratio(sums.tolist(), counts.tolist()).holds(math.exp(0.5))
        drawn = generator.integers(n, size=(400, n))
        low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
        before += low <= math.exp(0.5) <= high
    assert held / 500 > 0.88
    assert before / 500 < held / 500 - 0.03


# Power


def shown(n, change, level, back, experiments=20_000):
    """Share of experiments in which McNemar's exact test shows the change."""
    generator = np.random.default_rng(n)
    forth, against, _ = generator.multinomial(n, [back + change, back, 1 - 2 * back - change], experiments).T
    p = 2 * stats.binom.cdf(np.minimum(forth, against), forth + against, 0.5)
    return np.mean((p < level) & (forth > against))


def smallest_one_way(n):
    """The smallest change if no prompt ever goes back, before any correction: six of n must change."""
    changes = np.linspace(0, 1, 100_001)
    return changes[np.searchsorted(stats.binom.sf(5, n, changes), 0.8)]


@pytest.mark.parametrize("n", [16, 32, 100])
@pytest.mark.parametrize("n_tests", [1, 3])
def test_the_smallest_change_is_found_in_four_of_five_experiments(n, n_tests):
    change = smallest_change(n, ALPHA / n_tests)
    assert change is not None
    assert power(n, change, ALPHA / n_tests) == pytest.approx(0.8)
    assert shown(n, change, ALPHA / n_tests, BACK) == pytest.approx(0.8, abs=0.01)


def test_changes_one_way_alone_promise_a_power_that_is_not_there():
    change = smallest_one_way(100)
    assert shown(100, change, ALPHA, 0.0) == pytest.approx(0.8, abs=0.01), "what it was made for"
    assert shown(100, change, ALPHA, BACK) == pytest.approx(0.55, abs=0.03), "two points go back"
    assert shown(100, change, ALPHA / 3, BACK) < 0.45, "and three comparisons are corrected"


def test_no_change_of_few_prompts_is_shown():
    assert smallest_change(6, ALPHA / 2) is None
    assert power(6, 0.96, ALPHA / 2) == 0


# Controls


def drawn_control(generator, n, rate, down):
    """Verdicts before and after a control that stops a share `down` of all prompts' refusals; 4 % move at random."""
    before = generator.random(n) < rate
    flipped = generator.random(n) < 0.04
    after = np.where(flipped, ~before, before) & ~(generator.random(n) < down / rate)
    return tuple({str(i): bool(value) for i, value in enumerate(rows)} for rows in (before, after))


def test_holm_clears_controls_that_move_and_the_interval_does_not():
    generator, cleared, seen, n = np.random.default_rng(0), 0, 0, 0
    for _ in range(12):
        pairs = {i: drawn_control(generator, 100, 0.5, 0.1 if i < 3 else 0.0) for i in range(15)}
        corrected = compare_family({i: (pair[0], pair[1], "") for i, pair in pairs.items()})
        cleared += sum(corrected[i].verdict != "lower" for i in range(3))
        seen += sum(compare_control(*pairs[i]).verdict == "lower" for i in range(3))
        n += 3
    assert cleared / n > 0.5
    assert seen / n > 0.8


def test_a_control_that_does_nothing_seems_to_move_about_once_in_twenty():
    generator = np.random.default_rng(1)
    found = [compare_control(*drawn_control(generator, 100, 0.5, 0.0)) for _ in range(250)]
    assert 0.02 < np.mean([row.verdict != "no difference shown" for row in found]) < 0.075
    assert all(row.p_holm is None and row.p is not None and row.change.low is not None for row in found)


def test_a_family_of_two_needs_seven_prompts():
    six = ({str(i): i < 6 for i in range(50)}, {str(i): False for i in range(50)})
    assert compare(*six, "lower").p == pytest.approx(2 * 0.5**6)
    found = compare_family({"a": (*six, "lower"), "b": (*six, "lower")})["a"]
    assert (found.p, found.verdict) == (None, "not testable")
    assert "6 of 50 refused before, 7 must stop" in found.note


# Agreement


def test_kappa_has_an_interval_only_where_it_holds_the_truth():
    generator, truth = np.random.default_rng(0), 0.3
    held = {"given": [], "not given": []}
    for positive in (0.03, 0.2):
        both = positive**2 + truth * positive * (1 - positive)
        one = positive - both
        for table in generator.multinomial(100, [both, one, one, 1 - both - 2 * one], 250):
            first = [True] * (table[0] + table[1]) + [False] * (table[2] + table[3])
            second = [True] * table[0] + [False] * table[1] + [True] * table[2] + [False] * table[3]
            if len({*first}) < 2 or len({*second}) < 2:
                continue
            kept = statistics.kappa(first, second).low is not None
            low, high = asymptotic(table.reshape(2, 2))
            held["given" if kept else "not given"].append(low <= truth <= high)
    assert np.mean(held["not given"]) < 0.75
    assert np.mean(held["given"]) > 0.9
    assert min(map(len, held.values())) > 150


def asymptotic(table):
    from statsmodels.stats.inter_rater import cohens_kappa

    found: Any = cohens_kappa(table)
    return float(found.kappa_low), float(found.kappa_upp)
