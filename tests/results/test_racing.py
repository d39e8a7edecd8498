"""Racing against measuring everything, on the default model's own scores, where the workspace has them."""

import numpy as np
import pytest

from pipeline.artifacts import prompt_scores, records
from pipeline.disk import tensors
from pipeline.maths import stability
from pipeline.maths.selection import select, thresholds_for
from tests.helpers.committed import committed
from tests.helpers.racing import raced, winner


@pytest.fixture(scope="module")
def measured():
    layout = committed("quick")
    if not layout.prompt_scores.exists():
        pytest.skip("the default model's scores are not here: dvc repro")
    sweep = prompt_scores.read_sweep(layout.prompt_scores, tensors.read_metadata(layout.prompt_scores)["model"])
    if any(row.stopped for row in records.read_scores(layout.scores)):
        pytest.skip("the default model's scores are raced: select.race=false measures all")
    return sweep, records.read_baselines(layout.baselines)[0]


def limits(baselines):
    return thresholds_for("calibrated", 24, kl=0.2, baselines=baselines)


def test_the_default_models_winner_is_that_of_the_exhaustive_sweep_in_every_order(measured):
    sweep, baselines = measured
    table, thresholds = {p: scores for p, scores in sweep.candidates.items() if scores}, limits(baselines)
    wins = stability.win_counts(
        table,
        sweep.harmful_metric,
        sweep.harmless_metric,
        lambda rows, drawn: select(rows, limits(drawn), "calibrated"),
        300,
        seed=0,
    )
    costs = []
    for seed in range(20):
        found, cost = raced(table, seed, thresholds)
        assert winner(found.scores, found.stopped, thresholds) == winner(table, {}, thresholds) == (-1, 18)
        assert sum(wins[place] for place in found.stopped) == 0, "stability keeps every candidate that ever wins"
        costs.append(cost)
    assert np.mean(costs) < 0.5
