"""sets: the further evaluation sets, and what they share with the prompts that find the direction."""

from pipeline.artifacts import records
from pipeline.artifacts.layout import SETS, Layout
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.prompts.build import further
from pipeline.stages.shared.instructions import opener


def sets(config: Config, layout: Layout) -> None:
    """One file of prompts per set of data.sets, and their audit."""
    fitted = {name: records.read_prompts(layout.prompts(name)) for name in SETS}
    built, audit = further(config.data, config.seed, opener(config), fitted)
    for name, rows in built.items():
        records.write_prompts(layout.prompts(f"{name}_test"), rows)
    files.write_json(layout.sets_audit, audit)
