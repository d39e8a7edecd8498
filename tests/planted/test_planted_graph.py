"""Two models with a known truth through `dvc repro` itself."""

import json

from pipeline.maths.labels import Label
from pipeline.results.metrics_file import read_metrics
from tests.helpers import planted
from tests.helpers.graph import RUN, Project


def test_planted_models_get_their_verdicts_from_the_graph(tmp_path):
    """One direction, whose refusals stop, and two, of which a part remains: side by side in one run of the graph."""
    project = Project(tmp_path / "project")
    truths = {planted.ONE: "mostly gone", planted.TWO: "remains"}
    for truth in truths:
        planted.install(project.folder, truth)
    overrides = ", ".join(map(json.dumps, (*planted.SETTINGS, *planted.LEAN)))
    project.params(models=", ".join(truth.name for truth in truths), overrides=overrides)
    ran = project.repro(*(f"report@{truth.name}-{RUN}" for truth in truths))
    assert ran.count("report") == ran.count("completions") == 2
    for truth, word in truths.items():
        results = project.folder / "outputs/eval" / truth.name / RUN
        metrics = read_metrics(results / "metrics.json")
        assert metrics.verdict == "direction_selected"
        assert metrics.selection.chosen is not None
        assert metrics.selection.chosen.layer in range(planted.WRITES + 1, truth.decides + 1)
        assert metrics.claim.ablation is not None
        assert metrics.claim.ablation.word == word
        left = metrics.refusal_score[Label("harmful", "ablation")].value
        assert json.loads((results / "headline.json").read_text())["still_refused_under_ablation"] == left
        assert metrics.export.greedy_different == 0
        assert f"Refusal {'is ' * (word != 'remains')}{word} under ablation" in (results / "report.txt").read_text()
