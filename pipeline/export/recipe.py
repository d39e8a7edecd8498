"""The recipe of an export: with its source, all that makes the same bytes again, kept where the bytes are not."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.disk import files
from pipeline.disk.files import RECIPE, SUMS
from pipeline.errors import UserError, first_line

if TYPE_CHECKING:
    from pipeline.maths.directions import Direction

ABOUT = ("README.md", "coverage.json", "equivalence.json")  # what an export says of itself
PACKAGES = ("safetensors", "tokenizers", "torch", "transformers")  # that have a say in its bytes


@dataclass(frozen=True)
class Recipe:
    """`pinned`: the identity of the source; `family`: its family file; `versions`: of what made the export."""

    pinned: str
    direction: "Direction"
    family: Mapping[str, Any]
    versions: Mapping[str, str]


def versions() -> dict[str, str]:
    """What is installed here of PACKAGES."""
    return {name: version(name) for name in PACKAGES}


def write_recipe(folder: Path, pinned: str, direction: "Direction", family: Mapping[str, Any]) -> None:
    """The recipe of the export in `folder`, the raw direction in full precision."""
    row = {
        "source": pinned,
        "direction": direction.vector.double().tolist(),
        "layer": direction.layer,
        "position": direction.position,
        "family": family,
        "versions": versions(),
    }
    files.write_json(folder / RECIPE, row)


def keep_proof(folder: Path) -> None:
    """Drop everything of an export but its recipe, what it says of itself, and the hashes of its files."""
    for path in folder.iterdir():
        if path.name not in (RECIPE, SUMS, *ABOUT):
            path.unlink()


def read_recipe(folder: Path, pinned: str, family: Mapping[str, Any]) -> Recipe:
    """The recipe in `folder`. Raises UserError for one of another source or family file, and for what is none."""
    import torch

    from pipeline.maths.directions import Direction

    path = folder / RECIPE
    row = files.read_object(path)
    missing = [name for name in (SUMS, *ABOUT) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder / missing[0]} is missing: run `dvc checkout`, or stage export again")
    try:
        vector = torch.tensor(row["direction"], dtype=torch.float64)
        if vector.ndim != 1 or not bool(vector.isfinite().all()) or not bool(vector.any()):
            raise ValueError("its direction is no list of numbers, or zero")
        if type(row["layer"]) is not int or type(row["position"]) is not int or not row["position"] < 0 <= row["layer"]:
            raise ValueError("its direction is of no layer and position")
        found = Recipe(
            row["source"], Direction(vector, row["layer"], row["position"]), row["family"], dict(row["versions"])
        )
    except KeyError as error:
        raise UserError(f"{path} is no recipe of an export: it has no {error}") from None
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise UserError(f"{path} is no recipe of an export: {first_line(error)}") from None
    if found.pinned != pinned:
        raise UserError(f"{path} belongs to model '{found.pinned}', not '{pinned}': name the model that it was made of")
    if files.content_hash(found.family) != files.content_hash(family):
        raise UserError(
            f"{path} was made with another family file: use the version of conf/family/ that it was made of"
        )
    return found


def require_recorded(made: Path, folder: Path, found: Recipe) -> int:
    """Number of files of an export, made again in `made`, after holding their hashes against those in `folder`.

    Raises UserError naming the first file that differs.
    """
    before, after = (_sums(each / SUMS) for each in (folder, made))
    differing = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if not differing:
        return len(after)
    here = versions()
    other = [f"{name} {found.versions.get(name)}, here {here[name]}" for name in here]
    changed = [text for text, name in zip(other, here, strict=True) if found.versions.get(name) != here[name]]
    why = f"it was made with {'; '.join(changed)}" if changed else "the recipe, the hashes or the source was changed"
    raise UserError(f"'{differing[0]}' is not the file that {folder / SUMS} records: {why}; nothing is kept")


def _sums(path: Path) -> dict[str, str]:
    lines = [line.partition("  ") for line in files.read_text(path, missing="is missing").splitlines()]
    return {name: sha256 for sha256, _, name in lines}
