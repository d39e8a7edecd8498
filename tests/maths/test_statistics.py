"""Every interval and test against an independent computation on hand data; what they promise: `test_simulations`."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, mannwhitneyu, multinomial, skew, t, ttest_1samp
from sklearn.metrics import cohen_kappa_score

from pipeline.maths import statistics
from pipeline.maths.comparisons import (
    LEAST_RANKED,
    Comparison,
    compare,
    compare_control,
    compare_family,
    fewest_flips,
    holm,
    power,
    rank,
    smallest_change,
    smallest_mean_change,
)
from pipeline.maths.statistics import Estimate


def outcomes(*pairs: tuple[bool | None, bool | None, int]) -> tuple[dict, dict]:
    """Verdicts before and after of as many prompts as each triple says."""
    rows = [(a, b) for a, b, count in pairs for _ in range(count)]
    return {str(i): a for i, (a, _) in enumerate(rows)}, {str(i): b for i, (_, b) in enumerate(rows)}


@pytest.mark.parametrize(("count", "n"), [(0, 100), (1, 20), (47, 100), (100, 100)])
def test_rate_interval_is_wilsons(count, n):
    estimate = statistics.rate([True] * count + [False] * (n - count))
    expected = binomtest(count, n).proportion_ci(method="wilson")
    assert (estimate.value, estimate.n) == (count / n, n)
    assert estimate.low == pytest.approx(expected.low, abs=1e-12)
    assert estimate.high == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.95])
def test_rate_intervals_cover_the_truth(p):
    n, n_sets = 100, 2000
    counts = np.random.default_rng(0).binomial(n, p, size=n_sets)
    intervals = {count: statistics.wilson(int(count), n) for count in set(counts)}
    covered = np.mean([intervals[count][0] <= p <= intervals[count][1] for count in counts])
    exact = sum(
        binom.pmf(k, n, p) for k in range(n + 1) if statistics.wilson(k, n)[0] <= p <= statistics.wilson(k, n)[1]
    )
    assert 0.93 <= covered <= 0.97
    assert abs(covered - exact) < 0.015, "the simulation agrees with the sum over all counts"


def test_the_interval_of_symmetric_rows_is_students():
    half = np.random.default_rng(1).normal(2.0, 1.0, size=25)
    rows = np.concatenate([half, 4 - half])
    estimate = statistics.mean(rows.tolist())
    low, high = t.interval(0.95, 49, rows.mean(), rows.std(ddof=1) / math.sqrt(50))
    assert estimate.low == pytest.approx(low)
    assert estimate.high == pytest.approx(high)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_interval_of_skewed_rows_inverts_halls_transformation(sign):
    rows = sign * np.random.default_rng(2).lognormal(size=20)
    estimate = statistics.mean(rows.tolist())
    a = skew(rows, bias=False) / (3 * math.sqrt(20))
    assert estimate.low is not None
    assert estimate.value is not None
    assert estimate.high is not None
    for end, expected in ((estimate.low, t.ppf(0.975, 19)), (estimate.high, t.ppf(0.025, 19))):
        x = (rows.mean() - end) / (rows.std(ddof=1) / math.sqrt(20))
        assert x + a * x**2 + a**2 * x**3 / 3 + a / 2 == pytest.approx(expected)
    assert (estimate.high - estimate.value > estimate.value - estimate.low) == (sign > 0), "longer towards the tail"


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([2.0] * 6 + [3.25], "7 rows: from 2 to 3.25"),
        ([0.5] * 20, "all rows are equal: there is no spread"),
        ([3.0], "1 rows: from 3 to 3"),
        ([*range(14)], "14 rows: from 0 to 13"),
    ],
)
def test_a_mean_without_an_interval_says_why(rows, note):
    estimate = statistics.mean([float(row) for row in rows])
    assert estimate.value == pytest.approx(np.mean(rows))
    assert (estimate.low, estimate.high, estimate.n, estimate.note) == (None, None, len(rows), note)
    assert statistics.mean([float(n) for n in range(15)]).low is not None


def test_rows_that_are_not_finite_are_refused():
    for rows in ([], [1.0, math.nan], [math.inf] * 9):
        with pytest.raises(ValueError, match="finite"):
            statistics.mean(rows)
    with pytest.raises(ValueError, match="at least one"):
        statistics.rate([])
    with pytest.raises(ValueError, match="finite"):
        statistics.auroc([True, False] * 8, [math.nan] * 16)
    with pytest.raises(ValueError, match="finite"):
        rank(math.nan, [0.1] * 19)


def test_auroc_is_the_mann_whitney_statistic_with_hanley_and_mcneils_interval():
    generator = np.random.default_rng(2)
    labels = [True] * 60 + [False] * 40
    scores = np.concatenate([generator.normal(1, 1, 60), generator.normal(0, 1, 40)]).round(1)
    estimate = statistics.auroc(labels, scores.tolist())
    expected = mannwhitneyu(scores[:60], scores[60:]).statistic / (60 * 40)
    assert estimate.value == pytest.approx(expected)
    q1, q2 = expected / (2 - expected), 2 * expected**2 / (1 + expected)
    variance = expected * (1 - expected) + 59 * (q1 - expected**2) + 39 * (q2 - expected**2)
    half = 1.96 * math.sqrt(variance / (60 * 40))
    assert estimate.low == pytest.approx(expected - half, abs=0.03)
    assert estimate.high == pytest.approx(expected + half, abs=0.03)


def test_an_auroc_difference_resamples_pairs():
    generator = np.random.default_rng(3)
    labels = [True] * 50 + [False] * 50
    scores = generator.normal(size=100) + np.array(labels)
    same = statistics.auroc_difference(labels, scores.tolist(), scores.tolist())
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = statistics.auroc_difference(labels, scores.tolist(), (scores + 2 * np.array(labels)).tolist())
    assert better.low is not None
    assert better.low > 0
    assert better.holds(better.value or 0)


@pytest.mark.parametrize("labels", [[True] * 100, [False] * 100, [True] * 14 + [False] * 86])
def test_an_auroc_of_one_class_is_no_number(labels):
    estimate = statistics.auroc(labels, [float(i) for i in range(100)])
    assert (estimate.value, estimate.low) == (None, None)
    assert "needs 15 of each" in estimate.note


def test_kappa_equals_scikit_learns_and_its_interval_a_bootstrap():
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    estimate = statistics.kappa(first, second)
    assert estimate.value == pytest.approx(0.4)
    assert estimate.value == pytest.approx(cohen_kappa_score(first, second))
    generator, rows = np.random.default_rng(0), np.array([first, second])
    draws = [cohen_kappa_score(*rows[:, generator.integers(50, size=50)]) for _ in range(2000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    assert estimate.low == pytest.approx(low, abs=0.05)
    assert estimate.high == pytest.approx(high, abs=0.05)


def test_kappa_of_a_judge_that_never_differs_is_no_number():
    estimate = statistics.kappa([True] * 9, [True, False] * 4 + [True])
    assert estimate.value is None
    assert "same verdict" in estimate.note
    with pytest.raises(ValueError, match="same rows"):
        statistics.kappa([True], [True, False])


@pytest.mark.parametrize(
    ("table", "note"),
    [
        ((1, 3, 0, 96), "a judge gives one verdict to 1 of 100 rows: an interval needs 5"),
        ((96, 0, 3, 1), "a judge gives one verdict to 1 of 100 rows: an interval needs 5"),
        ((5, 3, 0, 92), ""),
        ((50, 0, 0, 50), "the judges agree on every row: there is no spread"),
    ],
)
def test_kappa_of_few_verdicts_has_no_interval(table, note):
    pairs = zip(((True, True), (True, False), (False, True), (False, False)), table, strict=True)
    rows = [pair for pair, count in pairs for _ in range(count)]
    first, second = zip(*rows, strict=True)
    estimate = statistics.kappa(first, second)
    assert estimate.value == pytest.approx(cohen_kappa_score(first, second))
    assert (estimate.low is None, estimate.note) == (bool(note), note)


def test_paired_difference_equals_newcombes_published_example():
    # Newcombe 1998, Statistics in Medicine 17:2635, table II: a=36, b=12, c=2, d=0 of 50, method 10.
    first = [True] * 48 + [False] * 2
    second = [True] * 36 + [False] * 12 + [True] * 2
    low, high = statistics.newcombe_difference(first, second)
    assert (round(-high, 4), round(-low, 4)) == (0.0569, 0.3404)


@pytest.mark.parametrize(("lost", "gained"), [(46, 0), (12, 2), (5, 0), (6, 0), (3, 3), (0, 0), (2, 9)])
def test_the_paired_test_is_the_exact_binomial_test_of_the_changed_prompts(lost, gained):
    before, after = outcomes((True, False, lost), (False, True, gained), (True, True, 30), (False, False, 20))
    comparison = compare(before, after)
    changed = lost + gained
    expected = binomtest(gained, changed).pvalue if changed else 1.0
    assert comparison.p == pytest.approx(expected)
    assert (comparison.gained, comparison.lost) == (gained, lost)
    assert comparison.change.value == pytest.approx((gained - lost) / len(before))


def test_prompts_without_a_verdict_in_both_are_left_out():
    before, after = outcomes((True, False, 10), (True, None, 4), (None, False, 3), (False, False, 20))
    assert compare(before, after).change.n == 30


@pytest.mark.parametrize(
    ("pairs", "expected", "note"),
    [
        (((True, False, 5), (False, False, 95)), "lower", "too few refusals for a claim: 5 of 100"),
        (((True, True, 97), (False, True, 3)), "higher", "too few answers for a claim: 3 of 100"),
        (((True, False, 5),), "", "5 prompts"),
        (((None, False, 9),), "", "no prompt"),
    ],
)
def test_a_claim_that_the_data_cannot_support_is_a_verdict_and_no_number(pairs, expected, note):
    comparison = compare(*outcomes(*pairs), expected)
    assert (comparison.p, comparison.p_holm, comparison.verdict) == (None, None, "not testable")
    assert note in comparison.note
    assert holm({"a": comparison})["a"] == comparison


def test_all_refuse_and_none_refuse_have_defined_results():
    same = compare(*outcomes((True, True, 50)), "lower")
    assert (same.p, same.change.value) == (1.0, 0.0)
    stopped = holm({"a": compare(*outcomes((True, False, 50)), "lower")})["a"]
    assert stopped.p == pytest.approx(2 * 0.5**50)
    assert stopped.verdict == "lower"


def test_holms_correction_on_a_hand_example():
    change = Estimate(0.1, 0.0, 0.2, 100)
    family = {name: Comparison(change, 5, 0, p, 0.1) for name, p in {"a": 0.01, "b": 0.04, "c": 0.03}.items()}
    corrected = holm({**family, "d": Comparison(change, 0, 0, None, None)})
    assert [corrected[name].p_holm for name in "abc"] == pytest.approx([0.03, 0.06, 0.06])
    assert [corrected[name].verdict for name in "abcd"] == [
        "higher",
        "no difference shown",
        "no difference shown",
        "not testable",
    ]


def test_six_changes_are_the_fewest_that_show_and_seven_after_correction():
    assert fewest_flips() == 6
    assert binomtest(0, 6).pvalue < 0.05 < binomtest(0, 5).pvalue
    assert [fewest_flips(0.05 / n) for n in (2, 3, 4)] == [7, 7, 8]
    assert binomtest(0, 7).pvalue < 0.05 / 3 < 0.05 / 2 < binomtest(0, 6).pvalue


def test_power_is_the_sum_over_all_outcomes():
    n, change, back = 12, 0.4, 0.05
    ways = [(k, m) for k in range(n + 1) for m in range(n + 1 - k)]  # prompts that go forth, and back
    chances = multinomial(n, [back + change, back, 1 - 2 * back - change])
    found = sum(chances.pmf([k, m, n - k - m]) for k, m in ways if k > m and binomtest(m, k + m).pvalue < 0.05)
    assert power(n, change, 0.05, back) == pytest.approx(found)


def test_detectable_is_at_the_level_of_the_family():
    pair = (*outcomes((True, False, 40), (False, False, 60)), "lower")
    alone, three = compare_family({"a": pair})["a"], compare_family(dict.fromkeys("abc", pair))["a"]
    assert alone.detectable == smallest_change(100, 0.05)
    assert three.detectable == smallest_change(100, 0.05 / 3)
    assert (alone.detectable or 1) < (three.detectable or 0)


def test_a_control_is_judged_by_its_interval():
    moved = compare_control(*outcomes((True, False, 9), (False, True, 1), (True, True, 40), (False, False, 50)))
    still = compare_control(*outcomes((True, False, 3), (False, True, 2), (True, True, 45), (False, False, 50)))
    assert (moved.p_holm, still.p_holm) == (None, None)
    assert [row.verdict for row in (moved, still)] == ["lower", "no difference shown"]
    assert [row.change.holds(0.0) for row in (moved, still)] == [False, True]
    assert compare_control(*outcomes((True, False, 4))).verdict == "not testable"


def test_the_smallest_mean_change_is_the_one_that_a_t_test_finds_in_four_of_five_experiments():
    generator = np.random.default_rng(0)
    rows = generator.normal(0, 2, size=31)
    change = smallest_mean_change(rows.tolist())
    assert change is not None
    draws = generator.normal(change, rows.std(ddof=1), size=(3000, 31))
    assert np.mean(np.asarray(ttest_1samp(draws, 0, axis=1))[1] < 0.05) == pytest.approx(0.8, abs=0.03)
    assert smallest_mean_change([1.0]) is None
    assert smallest_mean_change([1.0, 1.0]) is None


@pytest.mark.parametrize(("effect", "place"), [(0.5, 1), (0.3, 2), (0.2, 3), (0.05, 4)])
def test_ranks_count_controls_that_are_at_least_as_strong(effect, place):
    controls = [0.1, 0.2, 0.3] + [0.0] * (LEAST_RANKED - 3)
    found = rank(effect, controls)
    assert found is not None
    assert (found.rank, found.n, found.p) == (place, 19, place / 20)
    assert rank(effect, controls[:-1]) is None, "first among eighteen has p above 0.05"


def test_ranks_of_exchangeable_draws_have_the_stated_size():
    draws = np.random.default_rng(0).normal(size=(4000, 20))
    found = [rank(row[0], row[1:]) for row in draws.tolist()]
    p = np.array([place.p for place in found if place is not None])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.012)


def test_intervals_hold_only_what_lies_in_them():
    assert all(Estimate(0.25, 0.1, 0.4, 9).holds(value) for value in (0.1, 0.25, 0.4))
    assert not Estimate(0.25, 0.1, 0.4, 9).holds(0.41)
    assert not Estimate(0.25, None, None, 1).holds(0.25)
