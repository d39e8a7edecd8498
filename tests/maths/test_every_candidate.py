"""Every candidate is measured on every val prompt, and shown: nothing is left out early."""

import re

import numpy as np
import pytest

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.commands.select import read_candidates
from pipeline.config.checks import LARGEST_SIZE
from pipeline.errors import UserError
from pipeline.maths.selection import CandidateScores
from pipeline.report.figures.selection import selection_heatmaps
from tests.conftest import ROOT
from tests.helpers.graph import RUN

ROWS = [
    CandidateScores(-1, 0, bypass=-2.0, induce=1.0, kl=0.1, n_harmful=8, n_harmless=9),
    CandidateScores(-1, 1, bypass=0.5, induce=-1.0, kl=0.9, n_harmful=8, n_harmless=9),
    CandidateScores.without_direction(-2, 0),
]


def test_every_candidate_of_a_run_has_all_scores_on_all_prompts(finished):
    layout = Layout("tiny", RUN, finished)
    _, n_val = records.read_baselines(layout.baselines)
    table = records.read_scores(layout.scores)
    directions = [row for row in table if not row.zero_norm]
    assert len(directions) > 10
    for row in directions:
        assert np.isfinite([row.bypass, row.induce, row.kl]).all(), row
        assert (row.n_harmful, row.n_harmless) == (n_val["harmful"], n_val["harmless"]), row


def test_the_heat_maps_show_all_that_was_scored():
    figure = selection_heatmaps(ROWS, ROWS[0], (2.0, -4.0), ["a", "b"], "tiny", "")
    shown = [axis.images[0].get_array().filled(np.nan).tolist() for axis in figure.axes[:3]]  # type: ignore[union-attr]
    assert [values[1] for values in shown] == [[-2.0, 0.5], [1.0, -1.0], [0.1, 0.9]]
    assert all(np.isnan(values[0]).all() for values in shown), "no direction"
    assert not [patch for axis in figure.axes[:3] for patch in axis.patches], "nothing is drawn over it"


def test_a_table_with_scores_of_some_prompts_alone_is_refused(tmp_path):
    path = tmp_path / "scores.csv"
    columns = "position,layer,bypass,induce,kl,zero_norm,stopped,n_harmful,n_harmless"
    path.write_text(f"{columns}\n-1,0,-2.0,1.0,0.1,False,,32,32\n")
    [row] = read_candidates(path, LARGEST_SIZE)
    assert row == CandidateScores(-1, 0, -2.0, 1.0, 0.1, n_harmful=32, n_harmless=32)
    with pytest.raises(UserError, match="stopped"):
        records.read_scores(path)
    path.write_text(f"{columns}\n-1,0,-2.0,1.0,0.1,False,,32,32\n-1,1,-9.0,1.0,0.1,False,kl,8,8\n")
    with pytest.raises(UserError, match=r"scores\.csv:3 .*some val prompts alone"):
        read_candidates(path, LARGEST_SIZE)


def test_no_word_is_left_of_a_race():
    words = re.compile(r"(?i)\brac(?:ed?|es|ing)\b|\bbeaten\b|\bstopped early\b")
    files = [
        path for name in ("pipeline", "conf") for kind in ("py", "yaml") for path in (ROOT / name).rglob(f"*.{kind}")
    ]
    found = [f"{path.relative_to(ROOT)}: {word}" for path in files for word in words.findall(path.read_text())]
    of_people = ("judges/text/markers.py", "judges/formats/wording.py")
    assert [line for line in found if not any(name in line for name in of_people)] == []
    assert words.findall("a raced sweep: beaten in a race"), "the words are seen"
