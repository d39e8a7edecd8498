"""figures: refusal before and after, and the selection heat maps."""

from typing import Any

from pipeline import figures as draw
from pipeline.artifacts import files, records, tables
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import stamp
from pipeline.config.schema import Config
from pipeline.maths.experiment import PLAN
from pipeline.maths.statistics import Estimate
from pipeline.stages.entry import run_stage


def figures(config: Config, layout: Layout) -> None:
    """Write every figure of one model as PNG."""
    metrics = files.read_json(layout.metrics)
    line = stamp(config, layout, metrics["provenance"]["model"])
    scores = {
        kind: {
            name: Estimate(**metrics["refusal_score"][f"{kind}_{name}"])
            for name in names
            if f"{kind}_{name}" in metrics["refusal_score"]
        }
        for kind, names in PLAN.items()
    }
    bars = draw.refusal_bars(scores, config.model.title, metrics["judge"], line)
    tables.write_png(layout.figure("refusal"), bars)
    tables.write_png(layout.figure("selection"), _heatmaps(config, layout, metrics["selection"], line))


def _heatmaps(config: Config, layout: Layout, selection: dict[str, Any], line: str) -> Any:
    scores = records.read_scores(layout.scores)
    if not scores:
        return draw.message(f"{selection['verdict']}: {selection['reason']}", config.model.title, line)
    chosen = records.chosen_candidate(selection)
    tokens = records.read_position_tokens(layout.filter_summary)
    baselines = (selection["baselines"]["harmful"], selection["baselines"]["harmless"])
    return draw.selection_heatmaps(scores, chosen, baselines, tokens, config.model.title, line)


if __name__ == "__main__":
    run_stage(figures)
