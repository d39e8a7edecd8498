"""completions: answers to the evaluation prompts under every intervention, greedy or sampled."""

from pipeline.artifacts import directions
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model
from pipeline.maths.experiment import conditions
from pipeline.stages.shared import sampling
from pipeline.stages.shared.answering import answer


def completions(config: Config, layout: Layout) -> None:
    """One file of completions per condition; batches already on disk are not generated again."""
    sources = directions.read_sources(layout, identity(config.model.source), config.generate.coefficient)
    plan = conditions(sources, config.evaluate.effects)
    model = open_model(config)
    answer(config, layout, model, plan)
    files.write_json(layout.sampling, sampling.record(config, model))
