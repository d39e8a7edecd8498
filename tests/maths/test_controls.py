"""Control directions against the identities that define them, and ranks among them where there is nothing to find."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pipeline.maths import controls
from pipeline.maths.comparisons import Rank
from pipeline.maths.directions import Direction, mean_row
from pipeline.maths.held_out import DIRECTION, ranks
from pipeline.maths.labels import control_kind, is_null

WIDTH = 12
Rows = tuple[torch.Tensor, torch.Tensor]
COUNTS = {"random": 3, "covariance": 2, "shuffled": 2}


@pytest.fixture
def rows():
    """Two classes that vary mostly in a few directions, which lie partly along what parts them, as activations do."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([4.0, 2.0, 1.0] + [0.1] * (WIDTH - 3), dtype=torch.float64)
    shift = torch.tensor([3.0, 1.0, 1.0] + [0.3] * (WIDTH - 3), dtype=torch.float64)
    harmful = torch.randn(90, WIDTH, generator=generator, dtype=torch.float64) * scale + shift
    return harmful, torch.randn(60, WIDTH, generator=generator, dtype=torch.float64) * scale


@pytest.fixture
def chosen(rows):
    return Direction(mean_row(rows[0]) - mean_row(rows[1]), 4, -2)


def drawn(chosen: Direction, rows: Rows, counts=COUNTS, layer_share: float | None = 0.5, seed=0):
    r = torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    r[-2, 0] = 0
    return controls.control_directions(chosen, r, torch.ones_like(r), rows, counts, layer_share, seed), r


def pooled(rows: Rows) -> np.ndarray:
    """By numpy: the classes' covariances, each about its own mean, weighted by their degrees of freedom."""
    first, second = ((len(part) - 1) * np.cov(part.numpy(), rowvar=False) for part in rows)
    return (first + second) / (sum(map(len, rows)) - 2)


def test_draws_of_the_covariance_have_the_pooled_covariance_of_the_classes(rows: Rows):
    draws = np.stack([controls.within_class_draw(*rows, seed).numpy() for seed in range(4000)])
    found, wanted = draws.T @ draws / len(draws), pooled(rows)
    assert np.abs(draws.mean(axis=0)).max() < 4 * np.sqrt(wanted.max() / len(draws)), "their mean is zero"
    errors = np.sqrt((np.outer(np.diag(wanted), np.diag(wanted)) + wanted**2) / len(draws))
    assert np.abs(found - wanted).max() < (5 * errors).max()
    assert (np.abs(found - wanted) < 5 * errors).all()
    whole = np.cov(torch.cat(rows).numpy(), rowvar=False)
    assert (np.abs(found - whole) > 5 * errors).any(), "about one mean for both classes it would be another"


def test_the_part_of_shuffled_labels_along_the_direction_was_there_before_it_is_gone(rows: Rows, chosen):
    before = [controls.shuffled_difference(*rows, seed) for seed in range(40)]
    cosines = [float(vector @ chosen.r_hat / vector.norm()) for vector in before]
    assert max(cosines) > 0.5
    assert min(cosines) < -0.5, "a difference in means of shuffled labels is no null"
    found, _ = drawn(chosen, rows, {**COUNTS, "shuffled": 40})
    after = torch.stack([found[f"shuffled_{index}"].vector for index in range(40)])
    assert_close(after @ chosen.r_hat, torch.zeros(40, dtype=torch.float64), atol=1e-12, rtol=0)
    assert_close(after.norm(dim=1), torch.full([40], chosen.norm, dtype=torch.float64))


def test_controls_are_named_placed_and_as_long_as_the_direction(rows, chosen):
    found, r = drawn(chosen, rows)
    names = [f"{kind}_{index}" for kind, n in COUNTS.items() for index in range(n)]
    assert list(found) == [*names, "layer_2"]
    assert all(direction.norm == pytest.approx(chosen.norm) for name, direction in found.items() if is_null(name))
    assert {(found[name].layer, found[name].position) for name in names} == {(4, -2)}
    assert torch.equal(found["layer_2"].vector, r[-2, 2])
    assert not is_null("layer_2")
    for share in (None, 0.1):  # at layer 0 there is no direction
        assert list(drawn(chosen, rows, layer_share=share)[0]) == names


def test_a_seed_gives_the_same_draws_and_no_two_are_the_same(rows, chosen):
    """Those of one run are not those of the run with the next seed, one number on."""
    first, again, other = (drawn(chosen, rows, layer_share=None, seed=seed)[0] for seed in (0, 0, 1))
    assert all(torch.equal(first[name].vector, again[name].vector) for name in first)
    every = [direction.vector for found in (first, other) for direction in found.values()]
    alike = [torch.equal(a, b) for index, a in enumerate(every) for b in every[:index]]
    assert not any(alike)


def test_what_the_rows_have_no_direction_for_is_left_out(chosen):
    alone = torch.ones(1, WIDTH, dtype=torch.float64), torch.zeros(1, WIDTH, dtype=torch.float64)
    found, _ = drawn(Direction(torch.ones(WIDTH).double(), 4, -2), alone, layer_share=None)
    assert list(found) == ["random_0", "random_1", "random_2"]
    shares = {row.variance_share for row in controls.described(chosen, found, alone).values()}
    assert shares == {0.0}


def test_the_first_of_each_kind_answer_and_another_layers_always(rows, chosen):
    found, _ = drawn(chosen, rows)
    some = controls.answered(found, {"random": 2, "covariance": 1, "shuffled": 1})
    assert list(some) == ["random_0", "random_1", "covariance_0", "shuffled_0", "layer_2"]
    assert controls.answered(found, COUNTS) == found


def test_a_control_is_described_by_its_cosine_and_by_what_varies_along_it(rows, chosen):
    covariance = pooled(rows)
    found, _ = drawn(chosen, rows, {"random": 200, "covariance": 200, "shuffled": 1})
    values, vectors = np.linalg.eigh(covariance)
    found["layer_3"] = Direction(torch.from_numpy(vectors[:, -1].copy()) * 7, 3, -2)
    facts = controls.described(chosen, found, rows)
    assert list(facts) == [DIRECTION, *found]
    for name, row in facts.items():
        x = {**found, DIRECTION: chosen}[name].r_hat.numpy()
        assert row.variance_share == pytest.approx(x @ covariance @ x / np.trace(covariance), rel=1e-9)
        assert row.cosine == pytest.approx(x @ chosen.r_hat.numpy(), abs=1e-12)
        assert row.kind == (control_kind(name) or DIRECTION)
    assert facts["layer_3"].variance_share == pytest.approx(values[-1] / values.sum())
    assert (facts["layer_3"].norm, facts[DIRECTION].cosine) == (pytest.approx(7), pytest.approx(1))
    shares = {kind: [row.variance_share for row in facts.values() if row.kind == kind] for kind in COUNTS}
    assert np.mean(shares["random"]) == pytest.approx(1 / WIDTH, rel=0.2), "an isotropic one has little to remove"
    assert np.mean(shares["covariance"]) > 5 * np.mean(shares["random"])


def metric(value, n=10):
    return [value] * n


def test_ranks_are_among_controls_of_one_kind_that_are_enough():
    others = {f"random_{i}": metric(1.9 - i / 20) for i in range(19)}
    others |= {f"covariance_{i}": metric(-2.0 if i < 2 else 2.0) for i in range(24)}
    others |= {f"shuffled_{i}": metric(-9.0) for i in range(18)} | {"layer_3": metric(-9.0)}
    rows = {DIRECTION: metric(-1.0), **others}
    assert ranks("bypass", metric(2.0), rows) == {"random": Rank(1, 19, 1 / 20), "covariance": Rank(3, 24, 3 / 25)}
    assert ranks("subtraction", metric(2.0), rows) == ranks("bypass", metric(2.0), rows)
    assert ranks("induce", metric(2.0), rows)["random"] == Rank(20, 19, 1.0), "addition is to raise it"
    few = {name: row for name, row in rows.items() if name not in ("random_3", "random_4")}
    assert list(ranks("bypass", metric(2.0), few)) == ["covariance"]


def test_the_best_of_ninety_without_any_effect_ranks_first_on_val_and_as_its_p_says_on_test():
    """The curse of the winner: what was chosen for its scores on some prompts is ahead of its controls there."""
    generator, n_draws, n_val, n_test = np.random.default_rng(0), 1500, 32, 40
    first_on_val, p_on_test, first_among_nineteen = 0, [], 0
    for _ in range(n_draws):
        candidates, nulls = generator.normal(size=(90, n_val)).mean(axis=1), generator.normal(size=(19, n_val))
        before = float(candidates.min())  # bypass: the lowest is chosen
        first_on_val += before < nulls[:4].mean(axis=1).min()
        first_among_nineteen += before < nulls.mean(axis=1).min()
        fresh = generator.normal(size=(20, n_test))
        rows = {f"random_{index}": list(row) for index, row in enumerate(fresh[1:])}
        p_on_test.append(ranks("bypass", metric(0.0, n_test), {DIRECTION: list(fresh[0]), **rows})["random"].p)
    assert first_on_val / n_draws > 0.9, "where p says 0.2"
    assert first_among_nineteen / n_draws > 0.75, "where p says 0.05: more controls do not help"
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(p_on_test) <= level + 1e-9)
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / n_draws)
