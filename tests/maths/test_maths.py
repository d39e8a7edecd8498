"""The identities of the paper, in float64, each with a control."""

import math

import pytest
import torch
from torch.testing import assert_close

from pipeline.maths.directions import Direction, MomentFitter, difference_in_means, is_zero, random_direction
from pipeline.maths.interventions import ablate, add, orthogonalize_, projection, projection_behind_norm
from pipeline.maths.metrics import kl_divergence, refusal_metric, token_cross_entropy


@pytest.fixture
def x():
    return torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def r_hat():
    vector = torch.randn(16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return vector / vector.norm()


def test_ablation_removes_the_component_that_was_there(x, r_hat):
    assert (x @ r_hat).abs().max() > 0.1
    assert_close(ablate(x, r_hat) @ r_hat, torch.zeros(5, 7, dtype=torch.float64), atol=1e-14, rtol=0)


def test_ablation_is_idempotent(x, r_hat):
    once = ablate(x, r_hat)
    assert not torch.equal(once, x)
    assert_close(ablate(once, r_hat), once)


def test_ablation_moves_by_exactly_the_component(x, r_hat):
    assert_close((x - ablate(x, r_hat)).norm(dim=-1), (x @ r_hat).abs())


def test_ablation_does_not_depend_on_sign_or_length(x):
    vector = torch.arange(1.0, 17.0, dtype=torch.float64)
    expected = ablate(x, Direction(vector, 1, -1).r_hat)
    for other in (-vector, 10 * vector):
        assert_close(ablate(x, Direction(other, 1, -1).r_hat), expected)


def test_bfloat16_activations_are_projected_in_the_precision_of_the_direction(x, r_hat):
    narrow = x.bfloat16()
    expected = ablate(narrow.double(), r_hat).bfloat16()
    assert torch.equal(ablate(narrow, r_hat.float()), expected)


def test_orthogonalizing_a_matrix_is_ablating_what_it_writes(x, r_hat):
    w_out = torch.randn(16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = ablate(x @ w_out.T, r_hat)
    orthogonalize_(w_out, projection(r_hat), axis=0)
    assert_close(x @ w_out.T, expected)


@pytest.mark.parametrize("shape", [(16,), (16, 24), (24, 16), (3, 16, 8), (3, 8, 16)])
def test_every_layout_is_projected_along_its_axis_whatever_the_slices(shape, r_hat):
    axis = shape.index(16)
    w = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = ablate(w.movedim(axis, -1), r_hat).movedim(-1, axis)
    whole, sliced = w.clone(), w.clone()
    orthogonalize_(whole, projection(r_hat), axis)
    orthogonalize_(sliced, projection(r_hat), axis, block=32)
    assert_close(whole, expected)
    assert torch.equal(whole, sliced)


@pytest.mark.parametrize("centred", [False, True])
def test_behind_a_norm_the_write_loses_the_direction_and_keeps_its_shape(r_hat, centred):
    generator = torch.Generator().manual_seed(4)
    gain = 1 + 0.3 * torch.randn(16, generator=generator, dtype=torch.float64)
    z = torch.randn(16, 50, generator=generator, dtype=torch.float64)

    def norm(z):
        z = z - z.mean(dim=0) if centred else z
        return gain[:, None] * z / z.square().mean(dim=0).sqrt()

    edited = z.clone()
    orthogonalize_(edited, projection_behind_norm(r_hat, gain, centred), axis=0)
    assert (r_hat @ norm(z)).abs().max() > 0.1
    assert_close(r_hat @ norm(edited), torch.zeros(50, dtype=torch.float64), atol=1e-12, rtol=0)
    ablated = ablate(norm(z).T, r_hat).T
    assert torch.nn.functional.cosine_similarity(norm(edited), ablated, dim=0).min() > 0.99


def test_addition_of_nothing_is_the_identity(x, r_hat):
    assert torch.equal(add(x, r_hat, 0.0), x)
    assert_close((add(x, r_hat, 2.0) - x) @ r_hat, torch.full((5, 7), 2.0, dtype=torch.float64))


def test_streamed_moments_equal_stacked_ones_for_any_batching(x):
    for size in (1, 2, 5):
        fitter = MomentFitter()
        for batch in x.float().split(size):
            fitter.update(batch)
        assert_close(fitter.moments().mean, x.float().double().mean(dim=0))
        assert_close(fitter.moments().variance, x.float().double().var(dim=0, correction=0))


def test_difference_in_means_has_its_sign():
    harmful, harmless = torch.full((1, 1, 2), 3.0), torch.full((1, 1, 2), 1.0)
    assert_close(difference_in_means(harmful, harmless), torch.full((1, 1, 2), 2.0, dtype=torch.float64))


def test_a_zero_difference_is_seen_relative_to_the_activations():
    assert is_zero(torch.full((4,), 1e-8), torch.ones(4))
    assert not is_zero(torch.full((4,), 1e-3), torch.ones(4))


def test_random_direction_has_the_norm_and_another_course(direction):
    random = random_direction(direction, seed=0)
    assert math.isclose(random.norm, direction.norm)
    assert abs(float(random.r_hat @ direction.r_hat)) < 0.9
    assert torch.equal(random.vector, random_direction(direction, seed=0).vector)
    assert not torch.equal(random.vector, random_direction(direction, seed=1).vector)


def test_refusal_metric_is_the_log_odds_of_the_refusal_tokens():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [2.0, 0.0, -1.0, 0.5]])
    metric = refusal_metric(logits, torch.tensor([0, 2]))
    assert_close(metric[0], torch.tensor(0.0, dtype=torch.float64), atol=1e-7, rtol=0)
    p = math.exp(2) + math.exp(-1)
    rest = 1 + math.exp(0.5)
    assert_close(metric[1], torch.tensor(math.log(p / rest), dtype=torch.float64), atol=1e-6, rtol=0)


def test_kl_is_baseline_to_changed_and_not_the_other_way():
    baseline, changed = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    p, q = (torch.distributions.Categorical(logits=row.double()) for row in (baseline, changed))
    expected = torch.distributions.kl_divergence(p, q)
    assert_close(kl_divergence(baseline, changed), expected, atol=1e-4, rtol=0)
    assert abs(float(torch.distributions.kl_divergence(q, p) - expected)) > 0.1
    assert_close(kl_divergence(baseline, baseline), torch.zeros(1, dtype=torch.float64))


def test_cross_entropy_of_equal_logits_is_the_log_of_their_number():
    assert_close(token_cross_entropy(torch.zeros(3, 8), torch.tensor([0, 3, 7])), torch.full((3,), math.log(8)))
