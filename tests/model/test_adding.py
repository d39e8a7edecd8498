"""Estimators on test prompts: ablated, and added as found, at equal norm and at equal KL."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from pipeline.maths.equal_terms import Entrant
from pipeline.maths.estimators import Finding
from pipeline.maths.metrics import kl_divergence, refusal_metric
from pipeline.model.passes import adding, scoring
from pipeline.model.passes.forward import all_logits
from pipeline.model.passes.intervene import intervene
from pipeline.names import EQUAL_KL, EQUAL_NORM, KL_TOLERANCE, MEAN_DIFFERENCE, OWN_LENGTH, TERMS
from pipeline.progress import Bar
from tests.conftest import INSTRUCTIONS

TOKENS = torch.arange(0, 250, 2)
PLACE = (-1, 2)


@pytest.fixture
def prompts(model):
    tokens = model.encode(INSTRUCTIONS)
    return scoring.prepare(model, tokens[:2], tokens[2:], TOKENS, 10_000)


@pytest.fixture
def d(model, prompts):
    """A direction of length 3 whose addition refuses more: of a few random ones, the one that does most."""
    generator = torch.Generator().manual_seed(5)
    drawn = torch.nn.functional.normalize(torch.randn(8, 32, generator=generator, dtype=torch.float64), dim=1)
    return max((3 * r for r in (*drawn, *-drawn)), key=lambda r: rise(model, prompts, r))


def rise(model, prompts, r):
    change = Finding(r).interventions(2, -1, 1.0)["addition"]
    return sum(metric for metric, _ in scoring.read_each(model, change, range(2, 5), prompts, 10_000))


def entrant(finding, norm=3.0):
    generator = torch.Generator().manual_seed(6)
    return Entrant(PLACE, finding, norm, torch.randn(20, 32, generator=generator))


def on_equal_terms(model, prompts, **findings):
    entrants = {name: entrant(finding) for name, finding in findings.items()}
    bar = Bar("", adding.planned_tokens(scoring.Work(model, prompts.split, prompts.n_harmful), entrants), "token", 0)
    found = dict(adding.on_equal_terms(model, entrants, prompts, 10_000, bar))
    assert bar.done == pytest.approx(bar.whole), "the bar ends full, however many steps an equal KL took"
    return found


def mean(rows):
    return sum(rows) / len(rows)


def test_a_shorter_direction_looks_worse_as_found_and_is_the_same_on_equal_terms(model, prompts, d):
    """Planted: an estimator that finds the very direction, 0.3 times as long."""
    found = on_equal_terms(model, prompts, logistic_probe=Finding(0.3 * d), mean_difference=Finding(d))
    own, short = found[MEAN_DIFFERENCE].added[OWN_LENGTH], found["logistic_probe"].added
    before = mean(prompts.harmless_metric.tolist())
    # The old comparison: the shorter one seems to bring less refusal, and to change less.
    assert mean(own.metric) - mean(short[OWN_LENGTH].metric) > 0.3 * (mean(own.metric) - before) > 0.1
    assert mean(short[OWN_LENGTH].kl) < 0.5 * mean(own.kl)
    # The new ones: no difference is left, of the same length to rounding, of the same KL to its tolerance.
    assert short[EQUAL_NORM].coefficient == pytest.approx(1 / 0.3)
    assert short[EQUAL_NORM].length == pytest.approx(own.length) == pytest.approx(3)
    assert_close(short[EQUAL_NORM].metric, own.metric, atol=2e-4, rtol=1e-4)
    assert_close(short[EQUAL_NORM].kl, own.kl, atol=2e-4, rtol=1e-4)
    assert mean(short[EQUAL_KL].kl) == pytest.approx(mean(own.kl), rel=KL_TOLERANCE)
    assert short[EQUAL_KL].coefficient == pytest.approx(1 / 0.3, rel=0.02)
    # Ablation has no length: nothing differs.
    assert_close(found["logistic_probe"].bypass, found[MEAN_DIFFERENCE].bypass, atol=2e-4, rtol=1e-4)


def test_the_difference_in_means_is_the_same_on_all_terms(model, prompts, d):
    added = on_equal_terms(model, prompts, mean_difference=Finding(d))[MEAN_DIFFERENCE].added
    assert added.keys() == set(TERMS)
    for first, second in itertools.pairwise(added.values()):
        assert first == second
    assert added[OWN_LENGTH].coefficient == 1


def test_an_affine_edit_is_compared_too_and_numbers_are_those_found_plainly(model, prompts, d):
    generator = torch.Generator().manual_seed(7)
    readout = torch.randn(32, generator=generator, dtype=torch.float64)
    u = torch.randn(32, generator=generator, dtype=torch.float64) + d
    gap = float(d @ readout)
    readout = readout if gap > 0 else -readout
    finding = Finding(u / (u @ readout) * abs(gap), readout, 0.0, abs(gap))
    found = on_equal_terms(model, prompts, mean_difference=Finding(d), leace=finding)["leace"]
    baseline = plainly(model, None)
    for added in found.added.values():
        if added.coefficient is None:
            continue
        change = finding.interventions(2, -1, added.coefficient)["addition"]
        logits = plainly(model, change)
        assert_close(
            torch.tensor(added.metric), refusal_metric(logits, TOKENS)[2:], atol=2e-4, rtol=1e-4, check_dtype=False
        )
        assert_close(
            torch.tensor(added.kl), kl_divergence(baseline, logits)[2:], atol=2e-4, rtol=1e-4, check_dtype=False
        )
    logits = plainly(model, finding.interventions(2, -1, 1.0)["ablation"])
    assert_close(
        torch.tensor(found.bypass), refusal_metric(logits, TOKENS)[:2], atol=2e-4, rtol=1e-4, check_dtype=False
    )
    assert_close(torch.tensor(found.kl), kl_divergence(baseline, logits)[2:], atol=2e-4, rtol=1e-4, check_dtype=False)


def plainly(model, change):
    with intervene(model, change):
        return torch.stack([all_logits(model, tokens)[-1] for tokens in model.encode(INSTRUCTIONS)])


def test_without_a_difference_in_means_there_is_no_equal_kl(model, prompts, d):
    added = on_equal_terms(model, prompts, logistic_probe=Finding(d))["logistic_probe"].added
    assert added[EQUAL_KL].coefficient is None
    assert added[EQUAL_KL].metric == ()
    assert "no difference in means" in added[EQUAL_KL].note
    assert len(added[OWN_LENGTH].metric) == 3
