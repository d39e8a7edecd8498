"""prompts: fetch, deduplicate and split the instructions, and audit what overlaps."""

from collections.abc import Callable
from pathlib import Path

from pipeline.artifacts import files, records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.prompts.build import build
from pipeline.prompts.spec import FileSpec
from pipeline.sources import Artefact, fetch
from pipeline.stages.entry import cache_folder, mirror_folder, run_stage


def opener(config: Config) -> Callable[[FileSpec], Path]:
    """Local path of a file of instructions, fetched and checked where it is not local."""

    def open_file(spec: FileSpec) -> Path:
        if not spec.places:
            return Path(spec.file).expanduser()
        artefact = Artefact(spec.file, spec.sha256, tuple(spec.places))
        return fetch(artefact, cache_folder(config), mirror_folder(config))

    return open_file


def prompts(config: Config, layout: Layout) -> None:
    """Six disjoint sets of instructions and audit.json."""
    sizes = {"harmful": config.sizes.harmful, "harmless": config.sizes.harmless}
    built, audit = build(config.data, sizes, config.seed, opener(config))
    for name, rows in built.sets.items():
        records.write_prompts(layout.prompts(name), rows)
    files.write_json(layout.audit, audit)


if __name__ == "__main__":
    run_stage(prompts)
