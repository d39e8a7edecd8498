"""direction: choose one candidate by the configured rule, or say why none can be chosen."""

from pipeline.artifacts import class_means, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths.selection import select, thresholds_for


def direction(config: Config, layout: Layout) -> None:
    """The selection with what each filter removed, and the raw direction when one was chosen."""
    filtered = records.read_filter_verdict(layout.filter_summary)
    if filtered.verdict:
        records.write_no_selection(layout.selection, config.select.rule, filtered)
        return
    from pipeline.maths.directions import Direction, difference_in_means

    pinned = identity(config.model.source)
    means = class_means.read_means(layout.activations, pinned)
    r = difference_in_means(means["harmful_mean"], means["harmless_mean"])
    baselines, n_val = records.read_baselines(layout.baselines)
    limits = config.select.limits()
    thresholds = thresholds_for(config.select.rule, n_layers=r.shape[1], baselines=baselines, **limits)
    selection = select(records.read_scores(layout.scores), thresholds, config.select.rule)
    records.write_selection(layout.selection, selection, baselines, n_val, filtered)
    if selection.chosen:
        position, layer = selection.chosen.position, selection.chosen.layer
        records.write_direction(layout.direction, Direction(r[position, layer], layer, position), pinned)
