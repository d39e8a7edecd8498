"""orthogonalize: write a model's weights with a direction removed, without ever loading the model.

    python -m pipeline orthogonalize llama_3_8b --direction direction.safetensors --out folder
    python -m pipeline orthogonalize llama_3_8b --recipe outputs/models/llama_3_8b/quick/export --out folder

The checkpoint is edited tensor by tensor, in the dtype it is stored in. The same command goes on with
what an interrupted one left. Hydra overrides may follow, such as model.source.kind=folder.
With --recipe, the export of a run with export.keep=proof is made again, and its files are held
against the hashes that the run recorded.
"""

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.artifacts import records
from pipeline.artifacts.provenance import identity
from pipeline.config.compose import compose
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.locks import only_writer
from pipeline.display import plain
from pipeline.entry.arguments import Parser
from pipeline.entry.model import model_folder
from pipeline.entry.program import guarded
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
        partial = _partial(out, pinned, direction)
        coverage = proof.export(source, partial, config.model.family, direction, byte_progress).coverage
        files.write_json(partial / "coverage.json", dict(coverage))
        card.write(partial / "README.md", _facts(config, pinned, direction, coverage))
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
        partial = _partial(out, pinned, found.direction)
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


def _partial(out: Path, pinned: str, direction: Direction) -> Path:
    return out.with_name(f".{out.name}.partial-{files.content_hash([pinned, direction.vector.tolist()])[:16]}")


def _facts(config: Config, pinned: str, direction: Direction, coverage: Mapping[str, Any]) -> card.Facts:
    return card.Facts(
        title=config.model.title,
        base_model=config.model.base_model,
        licence=config.model.licence,
        pinned=pinned,
        direction=direction,
        exact=config.model.family.exact,
        n_edited=coverage["n_edited"],
        n_writers=coverage["n_writers"],
        measured=None,
    )


def main() -> None:
    """Command line: the model, its direction, where to write, overrides."""
    parser = Parser(__doc__)
    parser.add_argument("model", help="name of a file in conf/model/")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--direction", type=Path, help="direction.safetensors of the same model")
    which.add_argument("--recipe", type=Path, help="folder of an export that was kept as proof: its bytes again")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not be there yet")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides")
    arguments = parser.parse_intermixed_args()

    def run() -> None:
        config = OmegaConf.to_object(compose(arguments.model, "standard", arguments.overrides))
        assert isinstance(config, Config)
        if arguments.recipe:
            n_files = again(config, arguments.recipe, arguments.out)
            print(plain(f"{arguments.out}: {n_files} files, byte for byte those that {arguments.recipe} records"))
            return
        coverage = orthogonalize(config, arguments.direction, arguments.out)
        print(plain(f"{arguments.out}: {coverage['n_edited']} of {coverage['n_writers']} writers edited"))

    guarded(run)
