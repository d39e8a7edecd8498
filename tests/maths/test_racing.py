"""Racing against measuring everything, on tables whose winner is known."""

import math
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts import prompt_scores, records
from pipeline.maths.racing import Prompts, lower_bound
from pipeline.maths.selection import BEATEN, CandidateScores, PromptScores, Thresholds, select
from pipeline.report.figures import selection as figures
from tests.helpers.racing import LEVEL, THRESHOLDS, cut, raced, winner


def draw(generator, n_candidates=40, n=32):
    """Scores of candidates around the thresholds; prompts differ, and candidates on them, as measured: KL is skewed."""
    prompt, table = generator.normal(0, 1.2, n), {}
    for layer in range(n_candidates):
        quality = generator.normal()
        bypass = -1.0 - 0.7 * quality + prompt + generator.normal(0, 0.5, n)
        induce = -0.7 + 0.8 * quality + generator.normal(0, 0.8, n)
        kl = generator.lognormal(math.log(0.13) + 0.5 * generator.normal(), 1.0, n)
        table[-1, layer] = PromptScores(tuple(bypass.tolist()), tuple(induce.tolist()), tuple(kl.tolist()))
    return table


def test_the_winner_is_that_of_the_exhaustive_sweep_as_often_as_stated_and_for_much_less():
    generator, wrong, costs, beaten = np.random.default_rng(0), 0, [], 0
    for seed in range(200):
        table = draw(generator)
        found, cost = raced(table, seed)
        wrong += winner(found.scores, found.stopped, THRESHOLDS) != winner(table, {}, THRESHOLDS)
        costs.append(cost)
        beaten += list(found.stopped.values()).count(BEATEN)
    assert wrong / 200 <= LEVEL
    assert np.mean(costs) < 0.8
    assert beaten > 0


def test_a_careless_level_does_choose_wrongly():
    generator, wrong = np.random.default_rng(0), 0
    for seed in range(60):
        table = draw(generator)
        # Half of 6 over 6 tests: the bound is the mean itself.
        found, _ = raced(table, seed, level=6.0)
        wrong += winner(found.scores, found.stopped, THRESHOLDS) != winner(table, {}, THRESHOLDS)
    assert wrong / 60 > LEVEL, "the simulation can tell a rule that errs"


def test_what_stopped_has_no_scores_after_it_and_the_rest_has_all():
    table = draw(np.random.default_rng(1))
    found, _ = raced(table, 0)
    assert found.stopped
    for place, scores in found.scores.items():
        for name in ("bypass", "induce", "kl"):
            seen = np.array(getattr(scores, name))
            measured = np.isfinite(seen)
            assert measured.all() == (place not in found.stopped)
            assert seen[measured] == pytest.approx(np.array(getattr(table[place], name))[measured], abs=0)


def test_a_score_that_is_not_finite_stops_a_candidate_and_few_prompts_stop_none():
    table = draw(np.random.default_rng(2))
    place = next(iter(table))
    table[place] = PromptScores((math.nan,) * 32, table[place].induce, table[place].kl)
    assert raced(table, 0)[0].stopped[place] == "not_finite"
    few = Prompts(tuple(range(8)), tuple(range(8)))
    small = {place: cut(scores, few) for place, scores in draw(np.random.default_rng(3)).items()}
    found, cost = raced(small, 0)
    assert (dict(found.stopped), cost) == ({}, 1.0)


def test_when_none_passes_the_nearest_are_measured_for_the_diagnosis():
    table, impossible = draw(np.random.default_rng(4)), Thresholds(0.0, 50.0, -50.0, 100)
    found, _ = raced(table, 0, impossible)
    rows = [
        prompt_scores.candidate_scores(place, row, found.stopped.get(place, "")) for place, row in found.scores.items()
    ]
    selection = select(rows, impossible, "calibrated")
    assert selection.chosen is None
    assert len(selection.nearest) == 5
    assert all(math.isfinite(row.kl) for row in selection.nearest)
    assert sum(map(len, selection.removed_by.values())) == len(table)


def test_the_bound_is_below_the_mean_as_often_as_stated():
    generator = np.random.default_rng(0)
    below = [lower_bound(generator.normal(3, 2, 8).tolist(), 0.05) <= 3 for _ in range(4000)]
    assert np.mean(below) == pytest.approx(0.95, abs=0.015)


def test_stopped_candidates_are_marked_in_the_table_and_drawn_as_such(tmp_path):
    rows = [
        CandidateScores(-1, 0, bypass=-2.0, induce=1.0, kl=0.1),
        CandidateScores(-1, 1, bypass=0.5, induce=-1.0, kl=0.9, stopped="kl", n_harmful=8, n_harmless=9),
        CandidateScores.without_direction(-2, 0),
    ]
    records.write_scores(tmp_path / "scores.csv", rows)
    assert repr(records.read_scores(tmp_path / "scores.csv")) == repr(rows)
    assert (tmp_path / "scores.csv").read_text().splitlines()[2] == "-1,1,0.5,-1.0,0.9,False,kl,8,9"
    figure = figures.selection_heatmaps(rows, rows[0], (2.0, -4.0), ["a", "b"], "tiny", "")
    for axis in figure.axes[:3]:
        image: Any
        patch: Any
        [image], [patch] = axis.images, axis.patches
        assert np.isnan(image.get_array().filled(np.nan)).tolist() == [[True, True], [False, False]], (
            "what it saw is drawn"
        )
        assert (patch.get_x(), patch.get_y(), patch.get_hatch()) == (0.5, 0.5, "..")
