"""Typed results: what is written is what is read, nothing else is, and each file of verdicts is read once."""

import copy
import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.maths.labels import Label
from pipeline.regression.baseline import kept, read_baseline, write_baseline
from pipeline.results import overview
from pipeline.results.metrics_file import as_record, of_record, read_metrics, write_metrics
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
        (("version",), 1, "it is of version 1, this project reads 3"),
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
        (("outcomes", "harmful_melted"), {}, "'harmful_melted' names none of the effects baseline, ablation"),
        (("loss", "plain_text", "change", "melted"), {}, "'melted' names none of the effects baseline, ablation"),
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
    made = overview.rates_table(metrics).replace("", float("nan"))
    pd.testing.assert_frame_equal(table, made, check_dtype=False, check_exact=True)
    asked = table[(table.measure == "refusal") & (table.judge == metrics.judge)]
    assert len(asked) == len(metrics.refusal_score)
    asked = asked.loc[asked.system.isna() & (asked.source == "direction")].set_index("condition")
    row = asked.loc["harmful_ablation"]
    rate = metrics.refusal_score[Label("harmful", "ablation")]
    test = metrics.comparisons[Label("harmful", "ablation")]
    assert (row["value"], row["low"], row["n"]) == (rate.value, rate.low, rate.n)
    assert pd.isna(row["rank"]) == (rate.rank is None)
    assert (row["p_holm"], row["verdict"]) == (test.p_holm, test.verdict)


def test_the_five_lines_of_the_readme_print_the_main_rows(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    [lines] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(lines, {})
    printed = capsys.readouterr().out
    rate = of_record(RECORDS["standard"]).refusal_score[Label("harmful", "ablation")]
    assert re.search(rf"^ *harmful_ablation +{rate.value} .* {rate.n} ", printed, re.MULTILINE)
    assert len(printed.splitlines()) == 9  # eight conditions: no judge, set or system prompt is among them twice


def test_dvc_draws_the_rates_with_their_intervals():
    path = next((ROOT / "outputs/eval").glob("*/quick/rates.csv")).relative_to(ROOT)
    command = [sys.executable, "-m", "dvc", "plots", "show", "--show-vega", str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    drawn = json.loads(result.stdout)
    rows = pd.read_csv(ROOT / path)
    assert [row["condition"] for row in drawn["data"]["values"]] == list(rows.condition)
    assert drawn["spec"]["encoding"]["y"]["field"] == "condition"
    used = set(re.findall(r"datum\.(\w+)", json.dumps(drawn["transform"])))
    assert used <= set(rows.columns)


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
