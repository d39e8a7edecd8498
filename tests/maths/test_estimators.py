"""Each estimator against the theorem or the library that defines it, and its edit on a live model."""

import numpy as np
import pytest
import torch
from concept_erasure import LeaceEraser
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from torch.testing import assert_close

from pipeline.maths.directions import Direction, difference_in_means
from pipeline.maths.estimators import ESTIMATORS
from pipeline.maths.interventions import ActivationAddition, AffineEdit, DirectionalAblation, edit
from pipeline.model.passes import tracing
from pipeline.model.passes.intervene import intervene
from pipeline.names import ESTIMATOR_NAMES, MEAN_DIFFERENCE
from tests.conftest import INSTRUCTIONS


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(24, 24, generator=generator) / 5
    shift = torch.randn(24, generator=generator)
    harmful = torch.randn(140, 24, generator=generator) @ mixing + shift
    return harmful, torch.randn(100, 24, generator=generator) @ mixing


def difference(rows):
    return rows[0].double().mean(dim=0) - rows[1].double().mean(dim=0)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_direction_points_from_harmless_to_harmful_as_far_as_the_means_lie_apart(rows, name):
    r = ESTIMATORS[name](*rows).r
    assert r @ difference(rows) > 0
    assert_close(r @ difference(rows) / r.norm(), r.norm(), atol=1e-9, rtol=0)


def test_the_default_is_the_difference_in_means(rows):
    means = [part.double().mean(dim=0)[None, None] for part in rows]
    assert_close(ESTIMATORS[MEAN_DIFFERENCE](*rows).r, difference_in_means(*means)[0, 0])


def test_the_principal_component_is_the_first_of_an_uncentred_svd(rows):
    r = ESTIMATORS["principal_component"](*rows).r
    pairs = (rows[0][:100] - rows[1]).double().numpy()
    first = torch.from_numpy(np.asarray(TruncatedSVD(1, algorithm="arpack").fit(pairs).components_)[0])
    assert_close((r @ first).abs(), r.norm(), atol=1e-8, rtol=0)


def test_the_probe_is_the_plane_that_separates_unseen_rows(rows):
    r = ESTIMATORS["logistic_probe"](rows[0][:100], rows[1][:60]).r
    held_out = torch.cat([rows[0][100:], rows[1][60:]]).double()
    labels = torch.tensor([1] * 40 + [0] * 40)
    scores = held_out @ r
    threshold = scores[labels == 1].mean() / 2 + scores[labels == 0].mean() / 2
    accuracy = ((scores > threshold) == (labels == 1)).double().mean()
    assert accuracy > 0.9


def test_leace_is_the_librarys_eraser_set_to_the_harmless_mean(rows):
    finding = ESTIMATORS["leace"](*rows)
    effects = finding.interventions(layer=3, position=-1, coefficient=1.0)
    stacked = torch.cat(rows).double()
    labels = torch.tensor([1.0] * 140 + [0.0] * 100, dtype=torch.float64)
    eraser = LeaceEraser.fit(stacked, labels, constrain_cov_trace=False)
    ablation, addition = effects["ablation"], effects["addition"]
    assert isinstance(ablation, AffineEdit)
    assert isinstance(addition, AffineEdit)
    ours = edit(stacked, ablation.direction.vector, ablation.readout, ablation.target)
    shift = ours - eraser(stacked)
    assert_close(shift, shift[:1].expand_as(shift), atol=1e-9, rtol=0, msg="equal up to one constant vector")
    assert_close(ours @ ablation.readout, torch.full((240,), ablation.target, dtype=torch.float64))
    induced = edit(stacked, addition.direction.vector, addition.readout, addition.target)
    assert_close(induced - ours, finding.r.expand_as(ours), atol=1e-9, rtol=0)


def test_after_leace_no_linear_probe_tells_the_classes_apart(rows):
    """Belrose et al. 2023, theorem 3.1: class means are equal, so the best linear probe is the constant one."""
    stacked, labels = torch.cat(rows).double(), [1] * 140 + [0] * 100
    # Without shrinkage the covariance is the rows' own, and the theorem holds for them exactly.
    eraser = LeaceEraser.fit(stacked, torch.tensor(labels).double(), shrinkage=False, constrain_cov_trace=False)
    move, readout = eraser.proj_left[:, 0], eraser.proj_right[0]
    erased = edit(stacked, move, readout, float(rows[1].double().mean(dim=0) @ readout))
    before = stacked[:140].mean(dim=0) - stacked[140:].mean(dim=0)
    after = erased[:140].mean(dim=0) - erased[140:].mean(dim=0)
    assert before.abs().max() > 0.5
    assert after.abs().max() < 1e-9
    plain = LogisticRegression(C=100, max_iter=5000).fit(stacked.numpy(), labels).score(stacked.numpy(), labels)
    probe = LogisticRegression(C=100, max_iter=5000).fit(erased.numpy(), labels).score(erased.numpy(), labels)
    assert plain > 0.95
    assert probe == pytest.approx(140 / 240, abs=0.01)


def test_estimators_without_a_readout_ablate_and_add_their_direction(rows):
    for name in ESTIMATORS.keys() - {"leace"}:
        finding = ESTIMATORS[name](*rows)
        effects = finding.interventions(layer=3, position=-2, coefficient=0.5)
        assert isinstance(effects["ablation"], DirectionalAblation)
        assert isinstance(effects["addition"], ActivationAddition)
        assert effects["addition"].coefficient == 0.5
        assert torch.equal(effects["ablation"].direction.vector, finding.r)


def test_an_affine_edit_sets_the_readout_of_one_layer_and_leaves_earlier_ones(model):
    generator = torch.Generator().manual_seed(0)
    u, readout = (torch.randn(32, generator=generator, dtype=torch.float64) for _ in range(2))
    readout = readout / (readout @ u)
    prompts = model.encode(INSTRUCTIONS)
    plain = tracing.resid_pre(model, prompts, 3).double()
    with intervene(model, AffineEdit(Direction(u, 2, -1), readout, 0.75)):
        edited = tracing.resid_pre(model, prompts, 3).double()
    assert torch.equal(edited[:, :, :2], plain[:, :, :2])
    assert (plain[:, :, 3] - edited[:, :, 3]).abs().max() > 1e-3
    with intervene(model, AffineEdit(Direction(u, 2, -1), readout, 0.75)), torch.inference_mode():
        seen = {}
        handle = model.sites.blocks[2].input_layernorm.register_forward_hook(
            lambda _module, args, _output: seen.update(x=args[0].double())
        )
        model.hf(torch.tensor([prompts[0]]))
        handle.remove()
    assert_close(seen["x"] @ readout, torch.full(seen["x"].shape[:2], 0.75, dtype=torch.float64), atol=1e-4, rtol=0)


def test_rows_at_a_place_are_those_whose_mean_was_taken(model):
    prompts = model.encode(INSTRUCTIONS)
    n = len(model.post_instruction)
    places = [(-1, 2), (-n, 1), (-1, 0)]
    rows = tracing.resid_pre_at(model, prompts, places, 200)
    moments, whole = tracing.resid_pre_moments(model, prompts, n, 200, keep=True)
    assert whole is not None
    for index, (position, layer) in enumerate(places):
        assert torch.equal(rows[:, index], whole[:, position, layer])
        assert_close(rows[:, index].double().mean(dim=0), moments.mean[position, layer])


def test_names_are_those_of_the_estimators():
    assert tuple(ESTIMATORS) == ESTIMATOR_NAMES
