"""completions: greedy answers of the evaluation prompts under every intervention."""

from pipeline.artifacts import samples
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths.experiment import conditions
from pipeline.stages.answering import answer
from pipeline.stages.entry import run_stage
from pipeline.stages.models import open_model


def completions(config: Config, layout: Layout) -> None:
    """One file of completions per condition; batches already on disk are not generated again."""
    plan = conditions(samples.read_sources(layout, identity(config.model.source), config.generate.coefficient))
    answer(config, layout, open_model(config), plan)


if __name__ == "__main__":
    run_stage(completions)
