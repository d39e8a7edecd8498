"""completions: greedy answers of the evaluation prompts under every intervention."""

from pipeline.artifacts import directions
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.entry.model import open_model
from pipeline.maths.experiment import conditions
from pipeline.stages.shared.answering import answer


def completions(config: Config, layout: Layout) -> None:
    """One file of completions per condition; batches already on disk are not generated again."""
    sources = directions.read_sources(layout, identity(config.model.source), config.generate.coefficient)
    plan = conditions(sources, config.evaluate.effects)
    answer(config, layout, open_model(config), plan)
