"""Coefficients at which additions are of one length, or of one KL, and the tests of their differences."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pipeline.maths.equal_terms import (
    DOUBLINGS,
    Entrant,
    coefficient_of_kl,
    coefficient_of_norm,
    mean_length,
)
from pipeline.maths.estimators import ESTIMATORS, Finding
from pipeline.maths.interventions import AffineEdit, add, edit
from pipeline.maths.paired import flip_test, holm, paired
from pipeline.names import KL_TOLERANCE


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(24, 24, generator=generator) / 3
    harmful = torch.randn(140, 24, generator=generator) @ mixing + torch.randn(24, generator=generator)
    return harmful.double(), (torch.randn(100, 24, generator=generator) @ mixing).double()


def entrant(name, rows, norm=None):
    d = ESTIMATORS["mean_difference"](*rows).length
    return Entrant((-1, 2), ESTIMATORS[name](*rows), d if norm is None else norm, rows[1])


def added(found, coefficient):
    """What the intervention really adds to each harmless row."""
    x, change = found.harmless, found.finding.interventions(2, -1, coefficient)["addition"]
    if isinstance(change, AffineEdit):
        return edit(x, change.direction.vector, change.readout, change.target) - x
    return add(x, change.direction.vector, change.coefficient) - x


@pytest.mark.parametrize("name", ESTIMATORS)
def test_at_equal_norm_what_is_added_is_as_long_as_the_difference_in_means(rows, name):
    found = entrant(name, rows, norm=7.5)
    coefficient = coefficient_of_norm(found).value
    assert coefficient is not None
    lengths = added(found, coefficient).norm(dim=1)
    assert float(lengths.mean()) == pytest.approx(7.5, rel=1e-6)
    assert float(added(found, 1.0).norm(dim=1).mean()) == pytest.approx(mean_length(found, 1.0), rel=1e-9)


def test_directions_of_unit_estimators_are_shorter_than_the_difference_in_means(rows):
    d = entrant("mean_difference", rows).norm
    for name in ("principal_component", "logistic_probe"):
        found = entrant(name, rows)
        assert found.finding.length < 0.97 * d, "as found it is at a disadvantage"
        assert coefficient_of_norm(found).value == pytest.approx(d / found.finding.length)
        assert d / found.finding.length > 1.03
    assert coefficient_of_norm(entrant("mean_difference", rows)).value == 1


def test_the_mean_of_what_leace_adds_is_the_difference_in_means(rows):
    """After the edit both class means are equal, so its move is their difference; single rows are moved otherwise."""
    found = entrant("leace", rows)
    moves = added(found, 1.0)
    d = ESTIMATORS["mean_difference"](*rows).r
    assert_close(found.finding.r, d, atol=1e-9, rtol=0)
    assert_close(moves.mean(dim=0), d, atol=1e-9, rtol=0)
    assert float(moves.std(dim=0).max()) > 0.05
    assert mean_length(found, 1.0) >= found.finding.length - 1e-12
    assert mean_length(found, 0.1) > 1.01 * 0.1 * found.finding.length, "most rows lie on both sides of the target"


def test_an_edit_that_always_adds_more_has_no_equal_norm(rows):
    found = entrant("leace", rows, norm=0.01)
    assert mean_length(found, 0.0) > 0.01
    none = coefficient_of_norm(found)
    assert none.value is None
    assert "where the difference in means adds 0.01" in none.note


@pytest.mark.parametrize("scale", [0.15, 0.3, 1.0, 2.0, 50.0])
def test_at_equal_kl_the_kl_is_within_its_tolerance_in_few_steps(scale):
    asked = []

    def kl(c):
        asked.append(c)
        return scale * math.log1p(c**2)  # quadratic at first, then slower

    found = coefficient_of_kl(kl, 0.7)
    assert found.value is not None
    assert found.note == ""
    assert kl(found.value) == pytest.approx(0.7, rel=KL_TOLERANCE)
    assert len(set(asked)) <= 12


def test_the_first_doubling_that_passes_the_target_is_searched():
    kl = {0.0: 0.0, 1.0: 0.1, 2.0: 0.3, 4.0: 0.9, 8.0: 0.2}
    found = coefficient_of_kl(lambda c: float(np.interp(c, list(kl), list(kl.values()))), 0.6)
    assert found.value == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize(
    ("kl", "note"),
    [
        (lambda c: 0.5 * c / (1 + c), f"0.485 at {2**DOUBLINGS} times its own length: not on both sides of 0.7"),
        (lambda c: 0.8 + c, "0.8 at 0 and 1.8 at 1 times its own length: not on both sides of 0.7"),
        (lambda c: 0.1 if c < 3 else 2.0, "at 3 times its own length its KL jumps over 0.7"),
        (lambda c: math.nan if c > 1 else 0.1, "nan at 2 times its own length"),
        (lambda c: math.inf if c > 1 else 0.1, "inf at 2 times its own length"),
    ],
)
def test_a_kl_that_nothing_reaches_is_said_and_not_given(kl, note):
    found = coefficient_of_kl(kl, 0.7)
    assert found.value is None
    assert note in found.note


def test_a_difference_in_means_that_costs_nothing_gives_no_kl_to_compare_at():
    assert coefficient_of_kl(lambda c: c, 0.0).value is None


def test_the_difference_in_means_itself_needs_no_search():
    asked = []
    assert coefficient_of_kl(lambda c: asked.append(c) or 0.7, 0.7).value == 1
    assert set(asked) == {1.0}


# Differences


def test_the_flip_test_of_few_rows_counts_every_sign():
    rows = [0.3, -0.1, 0.8, 0.5, 1.2, -0.2, 0.9]
    means = [np.mean(np.multiply(rows, signs)) for signs in itertools.product((1, -1), repeat=7)]
    above = np.mean(np.array(means) >= np.mean(rows) - 1e-12)
    assert flip_test(rows) == pytest.approx(2 * above)
    assert flip_test([0.0] * 20) == 1


def test_the_flip_test_errs_as_often_as_it_says_where_rows_are_skewed():
    generator = np.random.default_rng(0)
    # Exchangeable: both of a pair are from the same skewed distribution.
    pairs = generator.exponential(size=(300, 2, 24)) ** 2
    errors = np.mean([flip_test((first - second).tolist(), seed) < 0.05 for seed, (first, second) in enumerate(pairs)])
    assert 0.01 < errors < 0.09
    shifted = np.mean([flip_test((first - second + 6).tolist()) < 0.05 for first, second in pairs[:50]])
    assert shifted > 0.5


def test_a_family_of_every_layer_of_a_deep_model_can_show_a_change():
    generator = np.random.default_rng(0)
    before = generator.normal(size=25)
    after = (before + 2 + 0.1 * generator.normal(size=25)).tolist()
    one = paired(before.tolist(), after)
    assert {row.verdict for row in holm({i: one for i in range(3 * 126)}).values()} == {"higher"}


def test_changes_are_paired_and_corrected_together():
    generator = np.random.default_rng(3)
    before = generator.normal(size=60)
    after = {"more": before + 0.5, "even": before + generator.choice((-0.2, 0.2), size=60), "same": before}
    found = holm({name: paired(before.tolist(), (a + 0.01 * (name != "same")).tolist()) for name, a in after.items()})
    more = found["more"].change
    assert more.value == pytest.approx(0.51, abs=0.05)
    assert more.low is not None
    assert more.low > 0.4, "the spread between prompts is not in it"
    p = found["more"].p
    assert p is not None
    assert found["more"].p_holm == pytest.approx(2 * p)
    assert found["even"].p is not None
    assert found["even"].p > 0.05
    assert [found[name].verdict for name in after] == ["higher", "no difference shown", "not testable"]
    assert holm({}) == {}


def test_a_finding_twice_as_long_needs_half_the_coefficient():
    r = torch.tensor([3.0, 4.0], dtype=torch.float64)
    for factor in (0.25, 1.0, 2.0):
        found = Entrant((-1, 0), Finding(factor * r), 5.0, torch.zeros(1, 2, dtype=torch.float64))
        assert coefficient_of_norm(found).value == pytest.approx(1 / factor)
