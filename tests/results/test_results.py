"""Typed results: what is written is what is read, nothing else is, and each file of verdicts is read once."""

import copy
import json
import re

import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.maths.labels import Label
from pipeline.regression.baseline import kept, read_baseline, write_baseline
from pipeline.results import overview
from pipeline.results.metrics import as_record, of_record, read_metrics, write_metrics
from tests.conftest import ROOT

PATHS = sorted((ROOT / "outputs/eval").glob("*/*/metrics.json"))
RECORDS = {path.parent.name: json.loads(path.read_text()) for path in PATHS}


@pytest.mark.parametrize("run", RECORDS)
def test_metrics_are_read_as_they_are_written(run, tmp_path):
    found = of_record(RECORDS[run])
    assert as_record(found) == RECORDS[run]
    write_metrics(tmp_path / "metrics.json", found)
    assert read_metrics(tmp_path / "metrics.json") == found
    assert all(isinstance(label, Label) for label in found.refusal_score)


def changed(path: tuple, value: object) -> dict:
    record = copy.deepcopy(RECORDS["standard"])
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("version",), 1, "it is of version 1, this project reads 2"),
        (("version",), KeyError, "it is of version None"),
        (("verdict",), 3, "verdict: Input should be a valid string"),
        (("verdict",), KeyError, "verdict"),
        (("something",), 3, "keys that nothing reads"),
        (("selection", "chosen", "something"), 3, "keys that nothing reads"),
        (("refusal_score", "harmful_ablation", "value"), "much", "value: Input should be a valid number"),
        (("refusal_score", "harmful_ablation", "value"), "0.5", "keys that nothing reads"),
        (("refusal_score", "harmful_ablation", "n"), KeyError, "n: Field required"),
        (("comparisons", "harmful_ablation", "gained"), 0.5, "gained: Input should be a valid integer"),
        (("agreement", "substring and markers", "harmful_ablation", "equal"), KeyError, "equal"),
        (("loss", "plain_text", "change", "ablation", "rank"), "first", "rank"),
        (("outcomes",), [], "outcomes: Input should be a valid dictionary"),
    ],
)
def test_other_metrics_are_refused_in_one_line(tmp_path, path, value, said):
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(changed(path, value)))
    with pytest.raises(UserError, match=rf"metrics\.json is not what this version .*{re.escape(said)}.*`dvc repro`"):
        read_metrics(file)


@pytest.mark.parametrize("run", RECORDS)
def test_the_committed_rates_are_those_of_the_metrics(run):
    """A row per condition and judge, which pandas reads without being told how."""
    metrics = of_record(RECORDS[run])
    table = pd.read_csv(ROOT / f"outputs/eval/{metrics.model}/{run}/rates.csv")
    pd.testing.assert_frame_equal(table, overview.rates_table(metrics), check_dtype=False, check_exact=True)
    asked = table[(table.measure == "refusal") & (table.judge == metrics.judge)]
    assert len(asked) == len(metrics.refusal_score)
    [row] = [
        row
        for row in asked.to_dict("records")
        if (row["prompts"], row["effect"], row["source"]) == ("harmful", "ablation", "direction")
        and pd.isna(row["system"])
    ]
    rate = metrics.refusal_score[Label("harmful", "ablation")]
    test = metrics.comparisons[Label("harmful", "ablation")]
    assert rate.rank
    assert (row["value"], row["low"], row["n"], row["rank"]) == (rate.value, rate.low, rate.n, rate.rank.rank)
    assert (row["p_holm"], row["verdict"]) == (test.p_holm, test.verdict)


def test_the_headline_is_short_and_of_numbers():
    found = overview.headline(of_record(RECORDS["standard"]))
    assert 8 <= len(found) <= 12
    assert all(isinstance(value, int | float) for value in found.values())
    path = PATHS[0].parent.parent / "standard" / "headline.json"
    assert json.loads(path.read_text()) == found


def test_a_baseline_is_read_as_it_is_written(tmp_path):
    baseline = kept(of_record(RECORDS["quick"]))
    write_baseline(tmp_path / "quick.json", baseline)
    assert read_baseline(tmp_path / "quick.json") == baseline
    (tmp_path / "quick.json").write_text("{}")
    with pytest.raises(UserError, match=r"quick\.json is no baseline .*make it again with `make baseline`"):
        read_baseline(tmp_path / "quick.json")
