"""Several runs as one: changes are from a run's own baseline, and the file, the table and the print say the same."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from pipeline.errors import UserError
from pipeline.maths.labels import Label
from pipeline.maths.statistics import Estimate, rate
from pipeline.results.origins import Answers
from pipeline.results.repeated import Cosine, Origin, Repeat, Repeated, read_repeated, write_repeated
from pipeline.sweep.repeated import as_table, over
from pipeline.sweep.table import repeated_tables

BASELINE, ABLATION = Label("harmful", "baseline"), Label("harmful", "ablation")
GREEDY = Answers("greedy", None, None, None, None)


def run(first, n_before, n_after, n=40):
    """Prompts from number `first`, of which so many are refused before and after."""
    ids = [f"p{i}" for i in range(first, first + n)]
    return {
        label: {name: float(i < refused) for i, name in enumerate(ids)}
        for label, refused in ((BASELINE, n_before), (ABLATION, n_after))
    }


SEEDS = [run(0, 20, 4), run(20, 30, 4), run(40, 24, 0)]
DRAWS = [run(0, 20, 4), run(0, 22, 2)]


def repeated(**values):
    rates = {label: rate([bool(value) for value in rows.values()]) for label, rows in SEEDS[0].items()}
    greedy = Repeat(["seed=0"], 0, GREEDY, "direction_selected", -1, 3, rates, "c0")
    none = Repeat(["seed=1"], 1, GREEDY, "no_refusal_behaviour", None, None, {BASELINE: rates[BASELINE]}, "c1")
    sampled = replace(greedy, answers=Answers("sampled", 0.7, 0.8, 20, 0), overrides=["generate.draw=0"])
    known = {
        "runs": [greedy, none, sampled],
        "seeds": over(SEEDS, between=True),
        "cosines": [Cosine([0, 1], 0.5, 0.6, 0.7)],
        "chance_cosine": 0.1,
        "draws": over(DRAWS, between=False),
        "against_greedy": {BASELINE: Estimate(0.025, 0.0, 0.1, 40)},
        "refused_draws": {BASELINE: {"p0": 1.0}},
        "origin": Origin("sha256:0", {"scores": "a"}, "b", {"torch": "2"}),
    }
    return Repeated("tiny", "A model", "quick", "substring", 32, **(known | values))


def test_each_condition_is_over_its_runs_and_each_change_from_its_own_baseline():
    found: Any = over(SEEDS, between=True)
    before, after = found.refusal_score[BASELINE], found.refusal_score[ABLATION]
    assert before.value.value == pytest.approx(74 / 120)
    assert (before.value.n, before.n_answers) == (80, 120), "prompts that two runs share count once"
    assert (before.spread.low, before.spread.high, before.spread.n) == (0.5, 0.75, 3)
    change = found.change[ABLATION]
    assert change.value.value == pytest.approx(after.value.value - before.value.value)
    assert (change.spread.low, change.spread.high) == pytest.approx((-0.65, -0.4))
    assert found.change.keys() == {ABLATION}
    assert before.between is not None
    assert before.between.sd.value is not None
    assert over(DRAWS, between=False).refusal_score[BASELINE].between is None


def test_a_run_without_a_direction_has_no_say_in_its_effects():
    found = over([*SEEDS, {BASELINE: run(90, 10, 0)[BASELINE]}], between=True)
    assert found.refusal_score[BASELINE].spread.n == 4
    assert found.refusal_score[ABLATION].spread.n == found.change[ABLATION].spread.n == 3


def test_the_file_is_read_as_it_was_written_and_nothing_else_is(tmp_path):
    path = tmp_path / "seeds.json"
    write_repeated(path, repeated())
    assert read_repeated(path) == repeated()
    write_repeated(path, repeated(version=0))
    with pytest.raises(UserError, match=r"another version\): run `python -m pipeline seeds` again"):
        read_repeated(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="is not what this version of the project writes"):
        read_repeated(path)


def test_the_table_has_a_row_for_each_run():
    table = as_table(repeated())
    assert table["answers"].tolist() == ["greedy", "greedy", "sampled"]
    assert table["harmful_baseline"].tolist() == [0.5] * 3
    assert table["harmful_ablation_n"].isna().tolist() == [False, True, False]
    assert table["layer"].isna().tolist() == table["position"].isna().tolist() == [False, True, False]
    assert table["draw"].isna().tolist() == [True, True, False]
    assert table["draw"].tolist()[2] == 0


def test_what_is_printed_says_what_each_interval_is_over():
    console = Console(width=200, record=True, file=StringIO())
    for table in repeated_tables(repeated()):
        console.print(table)
    text = " ".join(console.export_text().split())
    assert "seed 0, draw 0" in text
    assert "2 seeds, greedy answers" in text
    assert "50%, 75% (n = 3)" in text
    assert "no_refusal_behaviour" in text
    assert "over prompts, each of which counts once" in text
    assert "+2% [+0%, +10%]" in text
    assert "95 have less than 0.100" in text
    without = list(repeated_tables(repeated(draws=over([], between=False), cosines=[], against_greedy={})))
    assert len(without) == 2, "no table without draws or directions"
