"""orthogonalize: write a model's weights with a direction removed, without ever loading the model.

    python -m pipeline.orthogonalize llama_3_8b --direction direction.safetensors --out folder

The checkpoint is edited tensor by tensor, in the dtype it is stored in. The same command goes on with
what an interrupted one left. Hydra overrides may follow, such as model.source.kind=folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.arguments import Parser
from pipeline.artifacts import card, files, records
from pipeline.artifacts.locks import only_writer
from pipeline.artifacts.provenance import identity
from pipeline.config.compose import compose
from pipeline.config.schema import Config
from pipeline.display import plain
from pipeline.errors import UserError
from pipeline.maths.directions import Direction
from pipeline.model import loading, proof
from pipeline.progress import byte_progress
from pipeline.stages.entry import guarded
from pipeline.stages.models import model_folder


def orthogonalize(config: Config, direction_file: Path, out: Path) -> dict[str, Any]:
    """Write the edited checkpoint with its card; the coverage report. Raises UserError when `out` is there.

    Another process that writes to `out` is waited for.
    """
    with only_writer(out.with_name(f".{out.name}.lock"), f"writes {out}"):
        return _orthogonalize(config, direction_file, out)


def _orthogonalize(config: Config, direction_file: Path, out: Path) -> dict[str, Any]:
    if out.exists():
        raise UserError(f"{out} is there already: remove it, or name another folder")
    source, pinned = model_folder(config), identity(config.model.source)
    loading.require_family(config.model.name, source, config.model.family)
    direction = records.read_saved_direction(direction_file, pinned)
    partial = out.with_name(f".{out.name}.partial-{files.content_hash([pinned, direction.vector.tolist()])[:16]}")
    coverage = proof.export(source, partial, config.model.family, direction, byte_progress).coverage
    files.write_json(partial / "coverage.json", dict(coverage))
    card.write(partial / "README.md", _facts(config, pinned, direction, coverage))
    files.move_folder(partial, out)
    return dict(coverage)


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
    parser.add_argument("--direction", type=Path, required=True, help="direction.safetensors of the same model")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not be there yet")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides")
    arguments = parser.parse_intermixed_args()

    def run() -> None:
        config = OmegaConf.to_object(compose(arguments.model, "standard", arguments.overrides))
        assert isinstance(config, Config)
        coverage = orthogonalize(config, arguments.direction, arguments.out)
        print(plain(f"{arguments.out}: {coverage['n_edited']} of {coverage['n_writers']} writers edited"))

    guarded(run)


if __name__ == "__main__":
    main()
