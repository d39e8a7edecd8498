"""prompts: fetch, deduplicate and split the instructions, and audit what overlaps."""

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.prompts.build import build
from pipeline.stages.shared.instructions import opener


def prompts(config: Config, layout: Layout) -> None:
    """Six disjoint sets of instructions and audit.json."""
    sizes = {"harmful": config.sizes.harmful, "harmless": config.sizes.harmless}
    built, audit = build(config.data, sizes, config.seed, opener(config))
    for name, rows in built.sets.items():
        records.write_prompts(layout.prompts(name), rows)
    files.write_json(layout.audit, audit)
