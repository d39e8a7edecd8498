"""figures: refusal before and after, selection, stability, estimators, length of the answers."""

from typing import TYPE_CHECKING, Any

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import stamp
from pipeline.config.schema import Config
from pipeline.disk import tables
from pipeline.disk.shape import as_written, read_record
from pipeline.report.figures import besides, claim, marks, selection, stability, suffix
from pipeline.results.metrics import Metrics
from pipeline.results.metrics_file import as_record, read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(config: Config, layout: Layout) -> None:
    """Write every figure of one model as PNG."""
    metrics = read_metrics(layout.metrics)
    stable, suffixes = (read_record(path, dict[str, Any]) for path in (layout.stability, layout.suffix))
    with as_written(layout.stability, layout.suffix):
        _figures(config.model.title, layout, metrics, stable, suffixes)


def _figures(title: str, layout: Layout, metrics: Metrics, stable: dict[str, Any], suffixes: dict[str, Any]) -> None:
    provenance = as_record(metrics.provenance)
    line, nothing = stamp(provenance), f"{metrics.verdict}: {metrics.reason}"
    drawn = {"selection": _candidates(layout, metrics, title, line)}
    if "learning_curve" in stable:
        tokens = records.read_position_tokens(layout.filter_summary)
        drawn["stability"] = stability.stability_panels(stable, tokens, title, stamp(stable["provenance"]))
    else:
        drawn |= {name: marks.message(nothing, title, line) for name in ("stability", "estimators")}
    drawn |= {**claim.figures(metrics, line), **besides.figures(metrics, line)}
    if "provenance" in suffixes:
        drawn |= suffix.figures(suffixes, title, stamp(suffixes["provenance"]))
    sources = {name: suffixes["provenance"] for name in drawn if name.startswith("suffix_")}
    sources["stability"] = stable["provenance"]
    for name, figure in drawn.items():
        tables.write_png(layout.figure(name), figure, sources.get(name, provenance))


def _candidates(layout: Layout, metrics: Metrics, title: str, line: str) -> "Figure":
    scores, chosen = records.read_scores(layout.scores), metrics.selection
    if not scores or chosen.baselines is None:
        return marks.message(f"{chosen.verdict}: {chosen.reason}", title, line)
    tokens = records.read_position_tokens(layout.filter_summary)
    baselines = (chosen.baselines["harmful"], chosen.baselines["harmless"])
    return selection.selection_heatmaps(scores, chosen.chosen, baselines, tokens, title, line)
