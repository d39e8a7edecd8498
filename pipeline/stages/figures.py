"""figures: refusal before and after, selection, stability, estimators, length of the answers."""

from collections.abc import Mapping
from typing import Any

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import stamp
from pipeline.config.schema import Config
from pipeline.disk import tables
from pipeline.disk.shape import as_written, read_record
from pipeline.maths.evaluation import is_control
from pipeline.maths.labels import Label, is_null
from pipeline.maths.statistics import Estimate
from pipeline.names import ESTIMATOR_NAMES
from pipeline.report.figures import besides as besides
from pipeline.report.figures import claim as draw
from pipeline.report.figures import suffix as suffix_figures
from pipeline.report.figures.claim import estimates


def figures(config: Config, layout: Layout) -> None:
    """Write every figure of one model as PNG."""
    sources = (layout.metrics, layout.stability, layout.suffix)
    metrics, stability, suffix = (read_record(path, dict[str, Any]) for path in sources)
    with as_written(*sources):
        _figures(config, layout, metrics, stability, suffix)


def _figures(
    config: Config, layout: Layout, metrics: dict[str, Any], stability: dict[str, Any], suffix: dict[str, Any]
) -> None:
    title, judge = config.model.title, metrics["judge"]
    scores = estimates(metrics["refusal_score"])
    lengths = {n: {int(length): e for length, e in estimates(r).items()} for n, r in metrics["by_length"].items()}
    for name in scores:
        lengths.setdefault(name, {})[metrics["max_new_tokens"]] = scores[name]
    line = stamp(metrics["provenance"])
    drawn = {
        "refusal": draw.score_bars(scores, "Refusal", "refused", judge, title, line),
        **besides.figures(metrics, scores, line),
        "selection": _heatmaps(config, layout, metrics["selection"], line),
        "length": draw.refusal_by_length(lengths, title, judge, line),
    }
    nothing = f"{metrics['verdict']}: {metrics['reason']}"
    if "learning_curve" in stability:
        tokens = records.read_position_tokens(layout.filter_summary)
        drawn["stability"] = draw.stability_panels(stability, tokens, title, stamp(stability["provenance"]))
    else:
        drawn |= {name: draw.message(nothing, title, line) for name in ("stability", "estimators")}
    if metrics["estimators"]:
        drawn["estimators"] = draw.estimator_rates(
            _estimator_rates(metrics, scores),
            {kind: scores[f"{kind}_baseline"] for kind in ("harmful", "harmless")},
            {effect: _controls(scores, effect) for effect in ("ablation", "addition")},
            title,
            judge,
            line,
        )
    if "provenance" in suffix:
        drawn |= suffix_figures.figures(suffix, title, stamp(suffix["provenance"]))
    for name, figure in drawn.items():
        source = suffix if name.startswith("suffix_") else stability if name == "stability" else metrics
        tables.write_png(layout.figure(name), figure, source["provenance"])


def _controls(scores: Mapping[str, Estimate], effect: str) -> list[Estimate]:
    """Rates of random and shuffled directions under an effect."""
    labels = {name: Label.parse(name) for name in scores}
    return [
        scores[name]
        for name, label in labels.items()
        if label.effect == effect and is_control(label.source) and is_null(label.source)
    ]


def _estimator_rates(metrics: Mapping[str, Any], scores: Mapping[str, Estimate]) -> dict[str, dict[str, Estimate]]:
    """Refusal score under each estimator's ablation and addition, where one was evaluated."""
    found: dict[str, dict[str, Estimate]] = {}
    for name in (name for name in ESTIMATOR_NAMES if name in metrics["estimators"]):
        record = metrics["estimators"][name]
        names = {"ablation": "harmful", "addition": "harmless"}
        labels = {effect: str(Label(kind, effect, record["conditions_of"])) for effect, kind in names.items()}
        title = name.replace("_", " ") + ("" if record["chosen"] else " (nearest miss)")
        found[title] = {e: scores[label] for e, label in labels.items() if record["evaluated"] and label in scores}
    return found


def _heatmaps(config: Config, layout: Layout, selection: dict[str, Any], line: str) -> Any:
    scores = records.read_scores(layout.scores)
    if not scores:
        return draw.message(f"{selection['verdict']}: {selection['reason']}", config.model.title, line)
    chosen = records.chosen_candidate(selection)
    tokens = records.read_position_tokens(layout.filter_summary)
    baselines = (selection["baselines"]["harmful"], selection["baselines"]["harmless"])
    return draw.selection_heatmaps(scores, chosen, baselines, tokens, config.model.title, line)
