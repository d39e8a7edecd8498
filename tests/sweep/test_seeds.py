"""Two seeds and two draws of the tiny model through the real graph, and what they say together."""

import json
from typing import Any

import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.graph import repeated as graph
from pipeline.graph.fresh import edited_results, stray_folders, unwritten
from pipeline.maths.labels import Label
from pipeline.report.figures.marks import title_of
from pipeline.results.metrics_file import read_metrics
from pipeline.results.repeated import place, read_repeated
from tests.helpers.graph import Project

SETTINGS = "profile: few\nseeds: [0, 1]\ndraws: 2\nsampling: {temperature: 2.0}\n"
pytestmark = pytest.mark.slow  # four runs of the graph, each stage a process of its own
OWN = ("harmful_baseline", "harmful_ablation", "harmless_baseline", "harmless_addition")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("seeds") / "project", git=True, one_run=False)
    project.lean_profile("few")
    (project.folder / "conf/experiment/seeds.yaml").write_text(SETTINGS)
    return project, project.module("pipeline", "seeds")


@pytest.fixture
def found(ran):
    return read_repeated(place("tiny", ran[0].folder))


def metrics_of(project):
    """Metrics by (seed, draw)."""
    paths = (project.folder / ".sweep/jobs").glob("*/outputs/eval/tiny/few/metrics.json")
    metrics = [read_metrics(path) for path in paths]
    return {(each.provenance.seed, each.answers.draw): each for each in metrics}


def test_each_seed_is_a_run_and_a_draw_shares_all_but_its_answers(ran):
    project, result = ran
    counts = {"prompts": 2, "activations": 2, "scores": 2, "completions": 4, "judge": 4, "metrics": 4}
    for stage, count in counts.items():
        assert result.stdout.count(f"Running stage '{stage}@tiny-few'") == count, stage
    runs = metrics_of(project)
    assert runs.keys() == {(0, None), (1, None), (0, 0), (0, 1)}
    assert {each.answers.how for key, each in runs.items() if key[1] is None} == {"greedy"}
    drawn = [runs[0, draw] for draw in range(2)]
    assert [(each.answers.how, each.answers.temperature) for each in drawn] == [("sampled", 2.0)] * 2
    assert drawn[0].selection == drawn[1].selection == runs[0, None].selection
    assert runs[1, None].prompts.hashes != runs[0, None].prompts.hashes
    folders = [path.parent for path in (project.folder / ".sweep/jobs").glob("*/outputs/models/tiny/few/completions")]
    texts = {folder.joinpath("completions/harmful_baseline.jsonl").read_text() for folder in folders}
    assert len(texts) == 4, "no two runs gave the same answers"


def test_the_files_say_what_the_runs_measured(ran, found):
    project, _ = ran
    runs = metrics_of(project)
    table = pd.read_csv(place("tiny", project.folder).with_suffix(".csv"))
    assert table[["seed", "answers"]].values.tolist() == [[0, "greedy"], [1, "greedy"], [0, "sampled"], [0, "sampled"]]
    for row, run in zip(table.to_dict("records"), found.runs, strict=True):
        measured = runs[run.seed, run.answers.draw]
        assert (row["verdict"], run.verdict) == (measured.verdict,) * 2
        assert (row["position"], row["layer"]) == (run.position, run.layer)
        for name in OWN:
            score = measured.refusal_score[Label.parse(name)]
            assert (row[name], row[f"{name}_low"], row[f"{name}_n"]) == pytest.approx((score.value, score.low, score.n))
    assert found.seeds.refusal_score.keys() >= {Label.parse(name) for name in OWN}
    for label, each in found.seeds.refusal_score.items():
        outcomes = [runs[seed, None].outcomes[label] for seed in (0, 1)]
        values: list[Any] = [value for rows in outcomes for value in rows.values()]
        assert each.value.value == pytest.approx(sum(values) / len(values))
        assert each.n_answers == len(values)
        assert each.value.n == len({name for rows in outcomes for name in rows})
        assert each.between is not None
        assert "needs 3" in each.between.sd.note, "two seeds tell nothing of what lies between seeds"
    for label, each in found.draws.refusal_score.items():
        assert (each.value.n, each.n_answers) == (8, 16), "two answers to a prompt are one prompt"
        greedy = runs[0, None].refusal_score[label].value
        shares = found.refused_draws[label]
        assert shares.keys() == runs[0, None].outcomes[label].keys()
        assert set(shares.values()) <= {0.0, 0.5, 1.0}
        assert found.against_greedy[label].value == pytest.approx(each.value.value - greedy)
    [cosine] = found.cosines
    assert cosine.seeds == [0, 1]
    places = {(run.position, run.layer) for run in found.runs[:2]}
    assert (len(places) == 1) == (cosine.at_first == pytest.approx(cosine.chosen))
    assert -1 <= cosine.at_second <= 1
    assert 0.2 < found.chance_cosine < 0.5, "of 32 dimensions"


def test_a_runs_report_and_figures_say_whether_its_answers_were_drawn(ran):
    project, _ = ran
    for key, metrics in metrics_of(project).items():
        is_drawn = key[1] is not None
        assert title_of(metrics).endswith("sampled answers") == is_drawn
        [report] = [
            path.read_text() for path in reports(project) if read_metrics(path.with_name("metrics.json")) == metrics
        ]
        said = (
            f"answers sampled at temperature 2.0, top_p 1.0, top_k 0 (draw {key[1]})" if is_drawn else "greedy answers"
        )
        assert f"{said}, at most 8 tokens each" in " ".join(report.split())


def reports(project):
    return (project.folder / ".sweep/jobs").glob("*/outputs/eval/tiny/few/report.txt")


def test_the_tables_are_printed_and_a_second_call_computes_nothing(ran):
    project, result = ran
    again = project.module("pipeline", "seeds")
    ran_again = [line for line in again.stdout.splitlines() if line.startswith("Running stage")]
    assert all("'code'" in line for line in ran_again)
    printed = project.module("pipeline", "seeds", "--print").stdout
    for title in ("each run", "2 seeds, greedy answers", "2 draws of sampled answers", "cosine of the directions"):
        assert title in printed
    assert printed.strip() in result.stdout


def test_what_is_out_of_date_or_edited_is_named(ran):
    project, _ = ran
    root, path = project.folder, place("tiny", project.folder)
    assert list(graph.stale(root)) == []
    assert (edited_results([], root), unwritten([], root)) == ([], [])
    assert not [folder for folder in stray_folders([], root) if folder.name == "seeds"]
    for changed, what in (
        ("pipeline/maths/selection.py", "scores"),
        ("conf/profile/few.yaml", "configuration"),
    ):
        file = root / changed
        kept = file.read_text()
        file.write_text(kept + ("\nselect: {min_train: 2}\n" if changed.startswith("conf") else "\nX = 1\n"))
        [line] = graph.stale(root)
        assert f"seeds.json is out of date, by {'' if what == 'configuration' else 'activations, '}" in line
        assert what in line
        file.write_text(kept)
    kept = path.read_text()
    path.write_text(kept.replace("direction_selected", "direction_xelected"))
    assert edited_results([], root) == [path]
    path.write_text(json.dumps({**json.loads(kept), "more": 1}))
    with pytest.raises(UserError, match=r"seeds.json is not what this version of the project writes .* seeds` again"):
        read_repeated(path)
    path.write_text(kept)
    stray = path.with_name("notes.txt")
    stray.write_text("x")
    assert unwritten([], root) == [stray]
    stray.unlink()
