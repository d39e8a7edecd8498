"""prompts: fetch, deduplicate and split the instructions, and audit what overlaps."""

from pathlib import Path

from pipeline.artifacts import files, records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.prompts.build import build
from pipeline.prompts.spec import FileSpec
from pipeline.sources import local_path
from pipeline.stages.entry import cache_folder, mirror_folder, run_stage


def prompts(config: Config, layout: Layout) -> None:
    """Six disjoint sets of instructions and audit.json."""

    def open_file(spec: FileSpec) -> Path:
        return local_path(spec.file, spec.sha256, spec.places, cache_folder(config), mirror_folder(config))

    sizes = {"harmful": config.sizes.harmful, "harmless": config.sizes.harmless}
    built, audit = build(config.data, sizes, config.seed, open_file)
    for name, rows in built.sets.items():
        records.write_prompts(layout.prompts(name), rows)
    files.write_json(layout.audit, audit)


if __name__ == "__main__":
    run_stage(prompts)
