"""What a stage is given: its run's configuration as stage `compose` resolved it, in the dtype that `engine` settled."""

from pipeline.artifacts.kinds import Settled
from pipeline.artifacts.layout import Layout
from pipeline.config.checks import AUTO
from pipeline.config.resolved import load
from pipeline.config.schema import Config
from pipeline.disk.shape import read_record

COMPOSES, SETTLES = "compose", "engine"  # stages that make the configuration, and the dtype it leaves open


def given(stage: str, layout: Layout) -> tuple[Config, Layout] | tuple[Layout]:
    """The arguments of a stage's function. Raises UserError for a configuration that is missing or invalid."""
    if stage == COMPOSES:
        return (layout,)
    config = load(layout.config)
    return (config if stage == SETTLES else settled(config, layout)), layout


def settled(config: Config, layout: Layout) -> Config:
    """The configuration in the dtype that stage `engine` settled for this run."""
    if config.engine.dtype == AUTO and layout.engine.exists():
        config.engine.dtype = read_record(layout.engine, Settled)["dtype"]
    return config
