"""figures: refusal before and after, controls, selection, stability, estimators, length of the answers."""

from typing import TYPE_CHECKING, Any

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import stamp
from pipeline.config.schema import Config
from pipeline.disk import tables
from pipeline.disk.shape import as_written, read_record
from pipeline.report.figures import claim, estimators, held_out, marks, other_effects, selection, stability, suffix
from pipeline.results.metrics import Metrics
from pipeline.results.metrics_file import as_record, read_metrics
from pipeline.results.suffix_file import read_suffix

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(config: Config, layout: Layout) -> None:
    """Write every figure of one model as PNG."""
    metrics, title = read_metrics(layout.metrics), config.model.title
    provenance = as_record(metrics.provenance)
    line, nothing = stamp(provenance), f"{metrics.verdict}: {metrics.reason}"
    stable, suffixes = read_record(layout.stability, dict[str, Any]), read_suffix(layout.suffix).measured
    drawn = {"selection": _candidates(layout, metrics, title, line)}
    for wing in (claim, held_out, estimators, other_effects):
        drawn |= wing.figures(metrics, line)
    if "learning_curve" not in stable:
        drawn.setdefault("estimators", marks.message(nothing, title, line))
    for name, figure in drawn.items():
        tables.write_png(layout.figure(name), figure, provenance)
    tokens = records.read_position_tokens(layout.filter_summary)
    with as_written(layout.stability):
        panels = marks.message(nothing, title, line)
        if "learning_curve" in stable:
            panels = stability.stability_panels(stable, tokens, title, stamp(stable["provenance"]))
        tables.write_png(layout.figure("stability"), panels, stable["provenance"])
    if suffixes:
        made_from = as_record(suffixes.provenance)
        for name, figure in suffix.figures(suffixes, title, stamp(made_from)).items():
            tables.write_png(layout.figure(name), figure, made_from)


def _candidates(layout: Layout, metrics: Metrics, title: str, line: str) -> "Figure":
    scores, chosen = records.read_scores(layout.scores), metrics.selection
    if not scores or chosen.baselines is None:
        return marks.message(f"{chosen.verdict}: {chosen.reason}", title, line)
    tokens = records.read_position_tokens(layout.filter_summary)
    baselines = (chosen.baselines["harmful"], chosen.baselines["harmless"])
    return selection.selection_heatmaps(scores, chosen.chosen, baselines, tokens, title, line)
