"""The pure parts of the suffix analysis against hand-computed values and other libraries."""

from typing import Any

import numpy as np
import pytest
import torch
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW
from torch.testing import assert_close

from pipeline.maths import paired
from pipeline.maths.statistics import Estimate
from pipeline.suffix import record
from pipeline.suffix.maths import attribution, changes, coordinates


def test_head_projections_sum_to_the_projection_of_the_output():
    generator = torch.Generator().manual_seed(0)
    z, w = (torch.randn(shape, generator=generator) for shape in ((3, 12), (5, 12)))
    r = torch.randn(5, generator=generator, dtype=torch.float64)
    found = attribution.head_projections(z, w, r, 4)
    assert found.shape == (3, 4)
    assert_close(found.sum(dim=1), (z.double() @ w.double().T) @ r)
    assert_close(found[1, 2], (z[1, 6:9].double() @ w[:, 6:9].double().T) @ r)


def test_norm_scale_is_one_over_the_root_mean_square():
    x, gain = torch.randn(4, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    rms = x.square().mean(dim=-1).sqrt()
    assert_close(attribution.norm_scale(x, gain, gain * x / rms[:, None]), 1 / rms)


def test_region_masses_by_hand():
    attention = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0]])
    masses = attribution.region_masses(attention, torch.tensor([0, 1, 1, 3]), 4)
    assert_close(masses, torch.tensor([[0.1, 0.5, 0.0, 0.4], [1, 0, 0, 0]], dtype=torch.float64), atol=1e-7, rtol=0)


def test_relative_error_by_hand():
    whole = torch.tensor([[3.0, 0.0], [-3.0, 4.0]], dtype=torch.float64)
    parts = whole + torch.tensor([[0.0, 0.0], [0.0, 0.4]], dtype=torch.float64)
    assert attribution.relative_error(parts, whole) == pytest.approx(0.1)
    assert attribution.relative_error(whole, whole) == 0


def test_top_and_random_heads():
    mean = torch.tensor([[1.0, 5.0, -9.0], [3.0, 5.0, 0.0]])
    top = attribution.top_heads(mean, 3)
    assert top == [(0, 1), (1, 1), (1, 0)]
    for seed in range(20):
        others = attribution.random_heads(top, 2, 3, seed)
        assert len(set(others)) == 3
        assert not set(others) & set(top)
        assert [layer for layer, _ in others[:2]] == [0, 1], "from the same layers while there are others"
    assert len({tuple(attribution.random_heads([(0, 0)], 1, 9, seed)) for seed in range(20)}) > 3


def ends(row: Estimate) -> tuple[float, float, float]:
    assert row.low is not None
    assert row.value is not None
    assert row.high is not None
    return row.low, row.value, row.high


def test_change_is_the_paired_mean_with_the_flip_tests_p():
    generator = np.random.default_rng(1)
    before = generator.normal(size=30)
    after = before - 0.5 + 0.3 * generator.normal(size=30)
    found = paired.paired(before.tolist(), after.tolist())
    assert found.change.value == pytest.approx((after - before).mean())
    assert found.p == paired.flip_test((after - before).tolist())
    assert found.p is not None
    assert found.p < 0.001
    low, value, high = ends(found.change)
    assert low < value < high < 0
    other = paired.paired(before.tolist(), (before + 1e-3 * generator.normal(size=30)).tolist())
    same = paired.paired(before.tolist(), before.tolist())
    corrected = paired.holm({"a": found, "b": other, "c": same})
    expected: Any = multipletests([found.p, other.p], method="holm")[1]
    assert [corrected["a"].p_holm, corrected["b"].p_holm] == pytest.approx(expected.tolist())
    assert [row.verdict for row in corrected.values()] == ["lower", "no difference shown", "not testable"]


def test_returned_share_by_hand_and_without_a_fall():
    generator = np.random.default_rng(2)
    none = generator.normal(2, 0.5, size=40)
    suffixed = none - 4 + 0.2 * generator.normal(size=40)
    quarter = suffixed + 0.25 * (none - suffixed)
    found = changes.returned_share(none.tolist(), suffixed.tolist(), quarter.tolist())
    assert found.value == pytest.approx(0.25)
    assert found.low == pytest.approx(0.25)
    assert changes.returned_share(none.tolist(), suffixed.tolist(), none.tolist()).value == pytest.approx(1)
    noisy = changes.returned_share(none.tolist(), suffixed.tolist(), (quarter + generator.normal(size=40)).tolist())
    low, _, high = ends(noisy)
    assert low < 0.25 < high
    few = changes.returned_share([2.0] * 8, [0.0] * 8, [1.0] * 8)
    assert (few.value, few.low, few.note) == (0.5, None, "8 rows: from 0.5 to 0.5"), "a point without interval"
    rise = changes.returned_share(suffixed.tolist(), none.tolist(), quarter.tolist())
    assert (rise.value, rise.note.startswith("no fall")) == (None, True)


def test_outside_names_the_layers_that_leave_the_band():
    band = [Estimate(0.5, 0.4, 0.6, 20), Estimate(0.1, 0.0, 0.2, 20), Estimate(0.3, None, None, 20)]
    assert changes.outside([0.55, 0.25, 0.3], band) == [1]
    assert changes.outside([0.39, 0.1, 0.31], band) == [0, 2]
    few = [Estimate(0.5, None, None, 8, "8 rows: from 0.1 to 0.7")]
    assert changes.outside([9.0], few) == [], "few prompts have no interval to leave"


def test_best_suffix_is_the_lowest_mean():
    assert changes.best_suffix([[1.0, 2.0], [5.0, -9.0], [0.0, 0.0]]) == 1


def test_records_compare_the_pairs_on_the_same_prompts():
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(20, 4, 3, generator=generator, dtype=torch.float64)
    shift = torch.zeros(4, 3, dtype=torch.float64)
    shift[2, 1] = -5.0
    kinds = {"harmful": base, "adversarial": base + shift, "random": base.flip(0), "harmless": base - 1}
    moved, same = record.heads(kinds, [(2, 1), (0, 0)])
    assert (moved.layer, moved.head) == (2, 1)
    assert moved.written.adversarial_against_none.change.value == pytest.approx(-5)
    assert same.written.adversarial_against_none.verdict == "not testable"
    assert moved.written.harmless.value == pytest.approx(float(base[:, 2, 1].mean()) - 1)
    found = record.heads_sum(kinds, [(2, 1), (0, 0)])
    assert found.harmful.value == pytest.approx(float((base[:, 2, 1] + base[:, 0, 0]).mean()))
    assert found.adversarial_against_none.change.value == pytest.approx(-5)
    rows, left = record.cosines({kind: x[:, :, 0] for kind, x in kinds.items()})
    assert len(rows) == 4
    assert left == [], "the same prompts in another order have the same mean"
    _, left = record.cosines({**{k: x[:, :, 0] for k, x in kinds.items()}, "random": base[:, :, 0] + 9})
    assert left == [0, 1, 2, 3]


def test_a_table_is_corrected_as_one_family_over_numbers_and_pairs():
    generator = np.random.default_rng(4)
    none = generator.normal(size=(2, 12))
    table = [
        {
            "harmful": list(row),
            "adversarial": list(row - 0.4 + generator.normal(size=12)),
            "random": list(row + generator.normal(size=12)),
            "harmless": list(row),
        }
        for row in none
    ]
    found = record.measures(table)
    tests = [getattr(row, pair) for row in found for pair in record.PAIRS]
    expected: Any = multipletests([test.p for test in tests], method="holm")[1]
    assert [test.p_holm for test in tests] == pytest.approx(expected.tolist())
    assert any(test.p_holm > 2 * test.p for test in tests), "corrected over more than one number"


def test_how_far_a_suffix_goes_below_harmless_prompts_is_welchs():
    generator = np.random.default_rng(5)
    harmless, suffixed = generator.normal(-3, 1, size=32), generator.normal(-16, 2, size=25)
    found = changes.difference_of_means(harmless.tolist(), suffixed.tolist())
    means: Any = CompareMeans(DescrStatsW(harmless), DescrStatsW(suffixed))
    assert ends(found) == pytest.approx(
        (
            *means.tconfint_diff(usevar="unequal")[:1],
            harmless.mean() - suffixed.mean(),
            means.tconfint_diff(usevar="unequal")[1],
        )
    )
    assert found.n == 57
    few = changes.difference_of_means(harmless.tolist(), suffixed[:7].tolist())
    assert (few.low, few.note) == (None, "a set of fewer than 8 prompts")
    assert changes.difference_of_means([1.0] * 9, [0.5] * 9).value == 0.5
    assert changes.difference_of_means([1.0] * 9, [0.5] * 9).low is None


def test_draws_and_layers_are_in_the_order_of_their_numbers():
    restored = {f"component_at/{layer}": 0 for layer in (10, 9, 2, 0)} | {"component/last_token": 0, "component": 0}
    assert record.numbered(restored, "component_at") == [f"component_at/{layer}" for layer in (0, 2, 9, 10)]
    assert record.numbered(restored, "component") == []


def test_proposals_change_one_place_to_a_promising_token():
    gradient = torch.tensor([[0.0, -3.0, 2.0, -1.0], [5.0, 0.0, -2.0, -9.0]])
    best = coordinates.best_replacements(gradient, torch.tensor([0, 1, 2]), 2)
    assert best.tolist() == [[1, 0], [2, 1]], "token 3 is not allowed"
    current = torch.tensor([2, 0])
    rows = coordinates.proposals(current, best, 40, 0)
    assert sorted(rows.tolist()) == [[0, 0], [1, 0], [2, 1], [2, 2]]
    assert torch.equal(rows, coordinates.proposals(current, best, 40, 0))
