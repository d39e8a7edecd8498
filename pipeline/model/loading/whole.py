"""Is every tensor of a model's files read, and every parameter of the model in them? Else nothing is measured."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from pipeline.disk.checkpoint import DTYPES, Checkpoint, open_checkpoint
from pipeline.disk.files import read_object
from pipeline.errors import UserError
from pipeline.model.loading.naming import Naming

REMEDY = "the files are not whole, or of another model than config.json says: fetch the model again"


@dataclass(frozen=True)
class Tensors:
    """Tensors by their names on disk: `read` into the model, and `unread` ones, which its architecture ignores."""

    read: tuple[str, ...]
    unread: tuple[str, ...]


def require_files(name: str, folder: Path) -> Checkpoint | None:
    """The headers of the folder's weights; None for packed ones, whose names are the library's affair.

    Raises UserError for files that `open_checkpoint` refuses, for an adapter, and for a configuration that names its
    weights' file itself: measured and exported would then be different ones.
    """
    config = read_object(folder / "config.json")
    if (folder / "adapter_config.json").exists():
        raise UserError(f"model '{name}' in {folder} is an adapter: merge it into its model and name that folder")
    if config.get("transformers_weights"):
        raise UserError(f"{folder / 'config.json'} names its weights' file (transformers_weights): name it as usual")
    return None if config.get("quantization_config") else open_checkpoint(folder)


def account(name: str, model: PreTrainedModel, stored: Checkpoint) -> Tensors:
    """Hold the headers against a model without weights, tensor by tensor.

    Raises UserError naming a tensor that is left over, of another shape, or that holds no plain numbers, and a
    parameter that no tensor, or only a part of one, was found for.
    """
    naming, state = Naming(model), model.state_dict()
    have: dict[str, int] = {}
    left, unread = [], []
    for disk, row in stored.tensors.items():
        found = naming.of(disk)
        if found.parameter not in state:
            (unread if naming.ignored(disk) else left).append(disk)
            continue
        wanted = tuple(state[found.parameter].shape)
        if found.pattern is None and row.shape != wanted:
            raise UserError(
                f"model '{name}': tensor '{disk}' is {_shape(row.shape)} and its architecture has {_shape(wanted)}: "
                + REMEDY
            )
        if row.dtype not in DTYPES:
            raise UserError(f"model '{name}': tensor '{disk}' is stored as {row.dtype}, packed or quantised: {REMEDY}")
        have[found.parameter] = have.get(found.parameter, 0) + prod(row.shape)
    require_none(name, missing=[] if naming.splits else _missing(model, state, have), left=left)
    return Tensors(tuple(disk for disk in stored.tensors if disk not in unread), tuple(unread))


def _missing(model: PreTrainedModel, state: Mapping[str, Any], have: Mapping[str, int]) -> list[str]:
    short = {name for name, tensor in state.items() if have.get(name, 0) != tensor.numel()}
    tied = dict(model.all_tied_weights_keys)
    # Of two that are tied, one is enough.
    return sorted(name for name in short if not _twins(name, tied) - short)


def _twins(name: str, tied: Mapping[str, str]) -> set[str]:
    source = tied.get(name, name)
    group = {source, *(target for target, other in tied.items() if other == source)}
    return group - {name}


def require_none(name: str, missing: Collection[str], left: Collection[str]) -> None:
    """Raises UserError naming what is missing and what is left over, where anything is."""
    if not missing and not left:
        return
    parts = [f"lack {_some(missing)}" if missing else "", f"hold {_some(left)}, which nothing reads" if left else ""]
    raise UserError(f"model '{name}': its files {' and '.join(part for part in parts if part)}: {REMEDY}")


def require_loaded(name: str, report: Mapping[str, Any]) -> None:
    """Raises UserError where the library's own report of a load has a tensor made up, left over or not converted."""
    shapes = [key for key, *_ in report["mismatched_keys"]]
    require_none(name, [*report["missing_keys"], *shapes], report["unexpected_keys"])
    if report["error_msgs"]:
        raise UserError(f"model '{name}' does not load: {report['error_msgs'][0].splitlines()[0]}")


def _some(names: Iterable[str], most: int = 3) -> str:
    listed = sorted(names)
    shown = ", ".join(f"'{name}'" for name in listed[:most])
    return shown + (f" and {len(listed) - most} more tensors" if len(listed) > most else "")


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
