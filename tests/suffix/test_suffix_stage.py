"""Stage suffix on the tiny model: off by default, on by one setting, resumed, and its figures."""

import hashlib
import io
import json
import subprocess
import sys
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from pipeline.report.figures import suffix as suffix_figures
from pipeline.report.tables import suffix as suffix_tables
from pipeline.suffix.model.measure import SUM_TOLERANCE
from tests.helpers.graph import RUN, Project
from tests.helpers.stop import killed

SIZES = '"sizes.harmful.test=24","sizes.harmless.test=24","sizes.harmful.val=20","sizes.harmful.train=16"'
GIVEN = f'"suffix=given","suffix.texts=[b c d,zz top]",{SIZES}'
LONG = "b" * 99_999 + "\n"
LONG_SHA256 = hashlib.sha256(LONG.encode()).hexdigest()
BEFORE = ("compose", "prompts", "refusal_tokens", "activations", "scores", "direction")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    built = Project(tmp_path_factory.mktemp("suffix"))
    built.params(overrides=GIVEN)
    for stage in BEFORE:
        built.stage(stage)
    return built


@pytest.fixture(scope="module")
def record(project):
    return measured(project)


def measured(project, overrides=GIVEN, check=True):
    project.params(overrides=overrides)
    project.stage("compose")
    result = project.stage("suffix", check=check)
    return json.loads((project.at("eval") / "suffix.json").read_text()) if check else result


def test_every_number_is_there_and_the_parts_add_up(record):
    assert record["verdict"] in ("suffix_lowers_refusal", "suffix_does_not_lower_refusal")
    parts = record["decomposition"]
    assert parts["holds"]
    assert max(parts["sum_error"], parts["heads_error"]) < SUM_TOLERANCE
    for row in parts["parts"].values():
        total = row["embedding"] + row["heads"] + row["biases"] + row["mlps"]
        assert total == pytest.approx(row["residual_stream"], abs=1e-5)
    assert len(record["tried"]) == 2
    lowest = min(range(2), key=lambda number: record["tried"][number]["metric_val"]["value"])
    assert record["chosen"] == lowest, "chosen on val, measured on test"
    for draw in record["random_draws"]:
        assert draw["tokens"]["fewest"] == draw["tokens"]["most"] == record["tried"][lowest]["tokens"]["most"]
    for kind, regions in record["attention"]["values"].items():
        assert sum(row["value"] for row in regions.values()) == pytest.approx(1, abs=1e-5), kind
        assert (regions["suffix"]["value"] == 0) == (kind in ("harmful", "harmless"))


def test_restoring_nothing_and_every_head_are_the_ends_of_the_scale(record):
    none, suffixed = (record["metric"]["values"][kind]["value"] for kind in ("harmful", "adversarial"))
    assert abs(none - suffixed) > 0.01
    assert record["restoration"]["nothing"]["metric"]["value"] == pytest.approx(suffixed, abs=1e-3)
    assert record["restoration"]["all_heads"]["metric"]["value"] == pytest.approx(none, abs=1e-3)
    assert record["restoration"]["component_at/0"]["metric"]["value"] == pytest.approx(suffixed, abs=1e-3)


def test_no_suffix_and_no_text_of_a_prompt_is_in_the_record(record, project):
    text = json.dumps(record)
    lines = (project.at("models") / "prompts/harmful_test.jsonl").read_text().splitlines()
    assert not any(json.loads(line)["instruction"] in text for line in lines)
    assert "zz top" not in text


def test_figures_are_drawn_from_the_record(record):
    drawn = suffix_figures.figures(record, "tiny", "stamp")
    assert list(drawn) == ["suffix_cosine", "suffix_heads", "suffix_attention", "suffix_restoration"]
    for figure in drawn.values():
        assert isinstance(figure, Figure)
        assert figure.get_supxlabel() == "stamp"
        assert all(axis.get_xlabel() for axis in figure.axes[:1])
    line: Any = drawn["suffix_cosine"].axes[0].lines[0].get_ydata()
    assert list(line) == [row["value"] for row in record["cosine"]["values"]["harmful"]]
    bars: Any = drawn["suffix_attention"].axes[0].patches[:4]
    heights = [bar.get_height() for bar in bars]
    values = record["attention"]["values"]["harmful"]
    assert heights == [values[region]["value"] for region in suffix_figures.REGIONS]
    assert suffix_figures.figures({"verdict": "not_run"}, "tiny", "stamp") == {}


def printed(record):
    console = Console(width=140, record=True, file=io.StringIO())
    for table in suffix_tables.tables(record):
        console.print(table)
    return console.export_text()


def test_tables_show_the_numbers_of_the_record_and_what_random_suffixes_do(record):
    text = printed(record)
    changes = record["metric"]["changes"]["adversarial_against_none"]
    assert f"{changes['change']['value']:+.3f}" in text
    assert "refusal score [substring]" in text
    assert record["cosine"]["random_statement"] in text
    assert f"{record['restoration']['top_heads']['against_suffix']['change']['value']:+.3f}" in text
    assert printed({"verdict": "not_run", "reason": "off"}) == ""
    few = {"verdict": "too_few_refused_prompts", "reason": "3 refused harmful test prompts"}
    assert few["reason"] in printed(few)
    broken = {**record, "decomposition": {**record["decomposition"], "holds": False, "sum_error": 0.5}}
    assert "PARTS DO NOT ADD UP: off by 5e-01" in printed(broken)


def test_a_killed_run_resumes_and_equals_an_uninterrupted_one(record, project):
    out, partial = project.at("eval") / "suffix.json", project.folder / "outputs/partial"
    whole = out.read_bytes()
    out.unlink()
    assert not list(partial.glob("suffix-*"))
    command = [sys.executable, "-m", "pipeline.stages", "suffix", "--model", "tiny", "--run", RUN]
    killed(command, "*/outputs/partial/suffix-*", 8, cwd=project.folder, stderr=subprocess.DEVNULL)
    assert not out.exists()
    [left] = partial.glob("suffix-*")
    assert left.read_bytes().count(b"\n") == 8
    left.write_bytes(left.read_bytes()[:-5])  # as if the last write had been cut short
    project.stage("suffix")
    assert out.read_bytes() == whole
    assert not list(partial.glob("suffix-*"))


def test_it_is_not_run_by_default(record, project):
    assert measured(project, SIZES)["verdict"] == "not_run"


def test_what_the_search_found_is_measured_with_its_budget_and_printed(project):
    settings = ("--prompts", "2", "--suffix-tokens", "4", "--candidates", "8", "--starts", "2", "--steps", "2")
    printed = project.module("pipeline", "search-suffix", "--model", "tiny", *settings).stdout
    sha256 = printed.rsplit("suffix.sha256=", 1)[1].strip()
    found = measured(project, f'"suffix=found","suffix.sha256={sha256}",{SIZES}')
    [search] = found["searches"]
    assert (search["prompts"], search["steps"], search["settings"]["candidates"]) == (2, 2, 8)
    if found["verdict"] == "suffix_does_not_lower_refusal":
        assert found["reason"].startswith("no suffix found at this budget (2 prompts, 2 steps of 8 candidates")
    kept = project.folder / "outputs/suffixes/tiny.json"
    assert json.loads(kept.read_text())["suffixes"][0]["suffix"] not in json.dumps(found)
    kept.unlink()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            '"suffix=found","suffix.sha256=' + "0" * 64 + '"',
            "tiny.json does not exist: run `python -m pipeline search-suffix`",
        ),
        ('"suffix=given","suffix.file=nowhere.txt","suffix.sha256=' + "0" * 64 + '"', "mend suffix.file"),
        ('"suffix=given","suffix.file=conf/config.yaml","suffix.sha256=' + "0" * 64 + '"', "give the one it has"),
        (f'"suffix=given","suffix.file=long.txt","suffix.sha256={LONG_SHA256}",{SIZES}', "and the model reads"),
    ],
)
def test_a_suffix_that_cannot_be_used_is_one_line(record, project, overrides, message):
    (project.folder / "long.txt").write_text(LONG)
    result = measured(project, overrides, check=False)
    assert result.returncode == 1
    assert message in result.stderr.splitlines()[-1]
