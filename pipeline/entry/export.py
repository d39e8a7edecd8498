"""An edited checkpoint of the model that a configuration names, from its files alone."""

import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.artifacts import records, resume
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.locks import only_writer
from pipeline.entry.model import model_folder
from pipeline.errors import UserError
from pipeline.export import card, recipe
from pipeline.export.model import proof
from pipeline.maths.directions import Direction
from pipeline.model.loading import loading
from pipeline.progress import byte_progress


def orthogonalize(config: Config, direction_file: Path, out: Path) -> dict[str, Any]:
    """Write the edited checkpoint with its card; the coverage report. Raises UserError when `out` is there.

    Another process that writes to `out` is waited for.
    """
    with _alone(out):
        source, pinned = _opened(config, out)
        direction = records.read_saved_direction(direction_file, pinned)
        partial = _partial(config, out, pinned, direction)
        coverage = proof.export(source, partial, config.model.family, direction, byte_progress).coverage
        files.write_json(partial / "coverage.json", dict(coverage))
        card.write(partial / "README.md", card.facts(config.model, pinned, direction, coverage, None))
        files.move_folder(partial, out)
    return dict(coverage)


def again(config: Config, folder: Path, out: Path) -> int:
    """Write the export whose recipe and hashes are in `folder`, byte for byte; how many files have recorded hashes.

    Raises UserError when `out` is there, for a recipe of another source, and when a file is not the recorded one.
    Another process that writes to `out` is waited for.
    """
    with _alone(out):
        source, pinned = _opened(config, out)
        found = recipe.read_recipe(folder, pinned, asdict(config.model.family))
        partial = _partial(config, out, pinned, found.direction)
        proof.export(source, partial, config.model.family, found.direction, byte_progress)
        with proof.discarded(partial):
            n_files = recipe.require_recorded(partial, folder, found)
            for name in recipe.ABOUT:
                shutil.copyfile(folder / name, partial / name)
        files.move_folder(partial, out)
    return n_files


def _alone(out: Path) -> AbstractContextManager[bool]:
    return only_writer(out.with_name(f".{out.name}.lock"), f"writes {out}")


def _opened(config: Config, out: Path) -> tuple[Path, str]:
    """The source's folder and identity. Raises UserError when `out` is there."""
    if out.exists():
        raise UserError(f"{out} is there already: remove it, or name another folder")
    source, pinned = model_folder(config), identity(config.model.source)
    loading.require_family(config.model.name, source, config.model.family)
    return source, pinned


def _partial(config: Config, out: Path, pinned: str, direction: Direction) -> Path:
    return out.with_name(f".{out.name}.partial-{resume.key(pinned, direction.vector, config.model.family)}")
