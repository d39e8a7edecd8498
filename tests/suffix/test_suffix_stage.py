"""Stage suffix on the tiny model: off by default, on by one setting, resumed, and its figures."""

import hashlib
import json
import subprocess
import sys
from typing import Any

import pytest
from matplotlib.figure import Figure

from pipeline.names import SEARCH_OBJECTIVES
from pipeline.report.figures import suffix as suffix_figures
from pipeline.results.suffix_file import read_suffix
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


def measured(project, overrides=GIVEN, check=True) -> Any:
    project.params(overrides=overrides)
    project.stage("compose")
    result = project.stage("suffix", check=check)
    return read_suffix(project.at("eval") / "suffix.json") if check else result


@pytest.fixture(scope="module")
def analysis(record):
    assert record.verdict == "measured"
    assert list(record.measured.analyses) == ["given"]
    return record.measured.analyses["given"]


def test_every_number_is_there_and_the_parts_add_up(analysis):
    assert analysis.effect.verdict in ("suffix_lowers_refusal", "suffix_does_not_lower_refusal")
    parts = analysis.decomposition
    assert parts.holds
    assert max(parts.sum_error, parts.heads_error) < SUM_TOLERANCE
    for row in parts.parts.values():
        total = row["embedding"] + row["heads"] + row["biases"] + row["mlps"]
        assert total == pytest.approx(row["residual_stream"], abs=1e-5)
    assert [row.sha256 for row in analysis.tried] == [
        hashlib.sha256(text).hexdigest() for text in (b"b c d", b"zz top")
    ]
    lowest = min(range(2), key=lambda number: analysis.tried[number].metric_val.value)
    assert analysis.chosen == lowest, "chosen on val, measured on test"
    for draw in analysis.random_draws:
        assert draw.tokens.fewest == draw.tokens.most == analysis.tried[lowest].tokens.most
    for kind in ("harmful", "adversarial", "random", "harmless"):
        regions = {name: getattr(getattr(analysis.effect.attention, name), kind) for name in suffix_figures.REGIONS}
        assert sum(row.value for row in regions.values()) == pytest.approx(1, abs=1e-5), kind
        assert (regions["suffix"].value == 0) == (kind in ("harmful", "harmless"))


def test_the_numbers_of_a_suffix_are_those_of_its_curves_and_of_its_prompts(record, analysis):
    effect, prompts = analysis.effect, analysis.prompts
    assert effect.cosine == analysis.cosine[record.measured.layer]
    assert effect.component.share == analysis.restoration.component.returned
    assert len(effect.component.controls) == len(analysis.restoration.random_directions)
    means = {kind: sum(rows.values()) / len(rows) for kind, rows in prompts.items()}
    for kind, value in means.items():
        assert getattr(effect.metric, kind).value == pytest.approx(value)
    assert effect.below_harmless.value == pytest.approx(means["harmless"] - means["adversarial"])
    assert (len(prompts["harmful"]), len(prompts["harmless"])) == (
        record.measured.n.harmful,
        record.measured.n.harmless,
    )


def test_restoring_nothing_and_every_head_are_the_ends_of_the_scale(analysis):
    none, suffixed = analysis.effect.metric.harmful.value, analysis.effect.metric.adversarial.value
    assert abs(none - suffixed) > 0.01
    assert analysis.restoration.nothing.metric.value == pytest.approx(suffixed, abs=1e-3)
    assert analysis.restoration.all_heads.metric.value == pytest.approx(none, abs=1e-3)
    assert analysis.restoration.component_at[0].metric.value == pytest.approx(suffixed, abs=1e-3)


def test_no_suffix_and_no_text_of_a_prompt_is_in_the_record(record, project):
    text = (project.at("eval") / "suffix.json").read_text()
    lines = (project.at("models") / "prompts/harmful_test.jsonl").read_text().splitlines()
    assert not any(json.loads(line)["instruction"] in text for line in lines)
    assert "zz top" not in text


def test_figures_are_drawn_from_the_record(record, analysis):
    drawn = suffix_figures.figures(record.measured, "tiny", "stamp")
    names = ("cosine", "heads", "attention", "restoration")
    assert list(drawn) == [f"suffix_given_{name}" for name in names]
    for figure in drawn.values():
        assert isinstance(figure, Figure)
        assert figure.get_supxlabel() == "stamp"
        assert all(axis.get_xlabel() for axis in figure.axes[:1])
    line: Any = drawn["suffix_given_cosine"].axes[0].lines[0].get_ydata()
    assert list(line) == [row.harmful.value for row in analysis.cosine]
    bars: Any = drawn["suffix_given_attention"].axes[0].patches[:4]
    regions = [getattr(analysis.effect.attention, name) for name in suffix_figures.REGIONS]
    assert [bar.get_height() for bar in bars] == [row.harmful.value for row in regions]


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
    off = measured(project, SIZES)
    assert (off.verdict, off.measured, off.effects) == ("not_run", None, {})


def test_what_searches_found_is_measured_objective_by_objective_with_what_they_cost(project):
    settings = ("--prompts", "2", "--suffix-tokens", "4", "--candidates", "8", "--starts", "2", "--steps", "2")
    for objective in SEARCH_OBJECTIVES:
        command = ("search-suffix", "--model", "tiny", *settings, "--objective", objective, "--target", "Sure")
        printed = project.module("pipeline", *command).stdout
    sha256 = printed.rsplit("suffix.sha256=", 1)[1].strip()
    found = measured(project, f'"suffix=found","suffix.sha256={sha256}",{SIZES}')
    assert list(found.effects) == list(SEARCH_OBJECTIVES)
    for objective, analysis in found.measured.analyses.items():
        [search] = analysis.searches
        assert (search.objective, analysis.effect.objective) == (objective, objective)
        assert (search.n_prompts, search.steps, search.candidates) == (2, 2, 8)
        assert analysis.effect.target == search.target == ("Sure" if objective == "affirmative" else "")
        if analysis.effect.verdict == "suffix_does_not_lower_refusal":
            assert "no suffix found at this budget (2 prompts, 2 steps of 8 candidates" in analysis.effect.reason
    first, second = found.effects.values()
    assert first.metric.harmful == second.metric.harmful, "the same prompts"
    assert first.metric.adversarial != second.metric.adversarial, "with another suffix"
    kept = project.folder / "outputs/suffixes/tiny.json"
    written = (project.at("eval") / "suffix.json").read_text()
    texts = [row["suffix"] for row in json.loads(kept.read_text())["suffixes"]]
    assert not any(text in written for text in texts)
    assert all(hashlib.sha256(text.encode()).hexdigest() in written for text in texts)
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
