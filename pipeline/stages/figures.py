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
from pipeline.maths.labels import BASELINE, Label, is_null
from pipeline.maths.statistics import Estimate
from pipeline.names import ESTIMATOR_NAMES
from pipeline.report.figures import besides, suffix
from pipeline.report.figures import claim as draw
from pipeline.results.metrics import Metrics, as_record, read_metrics


def figures(config: Config, layout: Layout) -> None:
    """Write every figure of one model as PNG."""
    metrics = read_metrics(layout.metrics)
    stability, suffixes = (read_record(path, dict[str, Any]) for path in (layout.stability, layout.suffix))
    with as_written(layout.stability, layout.suffix):
        _figures(config, layout, metrics, stability, suffixes)


def _figures(
    config: Config, layout: Layout, metrics: Metrics, stability: dict[str, Any], suffixes: dict[str, Any]
) -> None:
    title, judge, scores = config.model.title, metrics.judge, metrics.refusal_score
    lengths: dict[Label, dict[int, Estimate]] = {label: dict(found) for label, found in metrics.by_length.items()}
    for label, rate in scores.items():
        lengths.setdefault(label, {})[metrics.max_new_tokens] = rate
    provenance = as_record(metrics.provenance)
    line = stamp(provenance)
    drawn = {
        "refusal": draw.score_bars(scores, "Refusal", "refused", judge, title, line),
        **besides.figures(metrics, line),
        "selection": _heatmaps(config, layout, metrics, line),
        "length": draw.refusal_by_length(lengths, title, judge, line),
    }
    if "learning_curve" in stability:
        tokens = records.read_position_tokens(layout.filter_summary)
        drawn["stability"] = draw.stability_panels(stability, tokens, title, stamp(stability["provenance"]))
    else:
        nothing = f"{metrics.verdict}: {metrics.reason}"
        drawn |= {name: draw.message(nothing, title, line) for name in ("stability", "estimators")}
    if metrics.estimators:
        drawn["estimators"] = draw.estimator_rates(
            _estimator_rates(metrics),
            {kind: scores[Label(kind, BASELINE)] for kind in ("harmful", "harmless")},
            {effect: _controls(scores, effect) for effect in ("ablation", "addition")},
            title,
            judge,
            line,
        )
    if "provenance" in suffixes:
        drawn |= suffix.figures(suffixes, title, stamp(suffixes["provenance"]))
    sources = {name: suffixes["provenance"] for name in drawn if name.startswith("suffix_")}
    sources["stability"] = stability["provenance"]
    for name, figure in drawn.items():
        tables.write_png(layout.figure(name), figure, sources.get(name, provenance))


def _controls(scores: Mapping[Label, Estimate], effect: str) -> list[Estimate]:
    """Rates of random and shuffled directions under an effect."""
    return [
        rate
        for label, rate in scores.items()
        if label.effect == effect and is_control(label.source) and is_null(label.source)
    ]


def _estimator_rates(metrics: Metrics) -> dict[str, dict[str, Estimate]]:
    """Refusal score under each estimator's ablation and addition, where one was evaluated."""
    found: dict[str, dict[str, Estimate]] = {}
    scores, kinds = metrics.refusal_score, {"ablation": "harmful", "addition": "harmless"}
    for name in (name for name in ESTIMATOR_NAMES if name in metrics.estimators):
        record = metrics.estimators[name]
        labels = {effect: Label(kind, effect, record.conditions_of) for effect, kind in kinds.items()}
        title = name.replace("_", " ") + ("" if record.chosen else " (nearest miss)")
        found[title] = {e: scores[label] for e, label in labels.items() if record.evaluated and label in scores}
    return found


def _heatmaps(config: Config, layout: Layout, metrics: Metrics, line: str) -> Any:
    scores, selection = records.read_scores(layout.scores), metrics.selection
    if not scores or selection.baselines is None:
        return draw.message(f"{selection.verdict}: {selection.reason}", config.model.title, line)
    tokens = records.read_position_tokens(layout.filter_summary)
    baselines = (selection.baselines["harmful"], selection.baselines["harmless"])
    return draw.selection_heatmaps(scores, selection.chosen, baselines, tokens, config.model.title, line)
