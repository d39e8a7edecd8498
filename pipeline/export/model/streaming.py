"""Weight orthogonalization of a checkpoint on disk, without loading the model (paper, section 4.1)."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.config.family import Family
from pipeline.disk import checkpoint
from pipeline.errors import UserError
from pipeline.maths.directions import Direction
from pipeline.maths.interventions import orthogonalize_
from pipeline.model import writers
from pipeline.model.loading.naming import Naming
from pipeline.model.loading.placement import skeleton
from pipeline.model.writers import Edit


@dataclass(frozen=True)
class Plan:
    """Edits by the tensors' names on disk, the copy that unties a head, config.json values, and coverage.

    Of the coverage, `unread` names tensors that are copied though the architecture does not read them: another program
    may, and they are not edited.
    """

    edits: Mapping[str, Edit]
    copies: Mapping[str, str]
    config: Mapping[str, Any]
    coverage: Mapping[str, Any]

    def edit(self, name: str, tensor: Tensor) -> None:
        """Project one tensor in place. Raises UserError when it holds NaN or infinity."""
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"tensor '{name}' holds NaN or infinity: the model is damaged, nothing is exported")
        orthogonalize_(tensor, self.edits[name].removed, self.edits[name].axis)


def export(
    source: Path,
    folder: Path,
    family: Family,
    direction: Direction,
    progress: Callable[[str, int], AbstractContextManager[Callable[[float], None]]],
) -> Plan:
    """Write the orthogonalised checkpoint of the model in `source` into `folder`.

    One tensor is in memory at a time; a folder that an interrupted call left is gone on with. Values
    keep the dtype they are stored in. Returns what was planned; `proof` holds what was written against it.
    """
    stored = checkpoint.open_checkpoint(source)
    planned = plan(source, family, direction, {name: row.shape for name, row in stored.tensors.items()}, stored.read)
    change = checkpoint.Rewriting(planned.edits.keys(), planned.edit, planned.copies, planned.config)
    with progress("export", checkpoint.n_bytes(stored, change)) as advance:
        checkpoint.rewrite(stored, folder, change, advance)
    _require_untied(folder)
    return planned


def plan(
    folder: Path,
    family: Family,
    direction: Direction,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], Tensor],
) -> Plan:
    """How each tensor of the checkpoint in `folder` is edited; `shapes` and `read` are of its tensors on disk.

    Raises UserError for quantised weights, for a parameter that the family file does not know, for
    a writer that the checkpoint lacks in whole or in part, and for a direction of another width.
    """
    model = _skeleton(folder)
    accounts = writers.account([name for name, _ in model.named_parameters()], family)
    on_disk = _on_disk(model, accounts, shapes)
    disk_of = {parameter: disk for disk, (parameter, _) in on_disk.items()}
    planned = writers.edits(accounts, lambda gain: read(disk_of[gain]), direction.r_hat)
    edits = {}
    for disk, (parameter, axis) in on_disk.items():
        if parameter in planned:
            edits[disk] = Edit(axis, planned[parameter].removed)
            writers.require_width(disk, shapes[disk], edits[disk])
    head, embedding = _ends(model)
    tied = head.weight is embedding.weight
    return Plan(
        edits=edits,
        copies=_untied(model, disk_of) if tied else {},
        config=_untied_config(model) if tied else {},
        coverage={
            "writers": {disk: _how(accounts, on_disk[disk][0]) for disk in sorted(edits)},
            "n_writers": len(planned),
            "n_edited": len({on_disk[disk][0] for disk in edits}),
            "n_others": len(accounts.others),
            "untied": tied,
            "unread": sorted(shapes.keys() - on_disk.keys()),
        },
    )


def _require_untied(folder: Path) -> None:
    head, embedding = _ends(_skeleton(folder))
    if head.weight is embedding.weight:
        raise UserError(f"{folder} would load with lm_head tied to the edited embedding: nothing is exported")


def _skeleton(folder: Path) -> PreTrainedModel:
    """The model's modules without storage. Raises UserError for quantised weights."""
    model = skeleton(folder, torch.float32)
    if getattr(model.config, "quantization_config", None):
        raise UserError(f"{folder} holds quantised weights: export from the model's full-precision repository")
    return model


def _on_disk(
    model: PreTrainedModel, accounts: writers.Accounts, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str, int]]:
    """{tensor on disk: (parameter, axis of d_model in the tensor)}, named as the library's loader would."""
    naming, state = Naming(model), model.state_dict()
    stacked = naming.stacking
    stored: dict[str, tuple[str, int]] = {}
    for disk in shapes:
        named = naming.of(disk)
        parameter, pattern = named.parameter, named.pattern
        writer = accounts.writers.get(parameter)
        if writer and pattern is not None and pattern not in stacked:
            raise UserError(f"tensor '{disk}' is stored in a layout that cannot be edited in place ({pattern})")
        if parameter in state:
            lost = state[parameter].ndim - len(shapes[disk])  # an expert of its own, stacked on loading
            stored[disk] = (parameter, writer.axis - lost if writer else 0)
    for parameter in accounts.writers:
        have = sum(prod(shapes[disk]) for disk, (name, _) in stored.items() if name == parameter)
        if have != state[parameter].numel():
            raise UserError(
                f"the checkpoint has {have:,} of the {state[parameter].numel():,} numbers of '{parameter}', "
                "which writes to the residual stream: it is incomplete or of another model"
            )
    return stored


def _untied(model: PreTrainedModel, disk_of: Mapping[str, str]) -> dict[str, str]:
    """{head on disk: embedding on disk}: the head keeps the embedding as it was.

    Nothing where the files hold a head of their own: the library reads it, equal to the embedding or not.
    """
    names = {id(module): name for name, module in model.named_modules()}
    head, embedding = (f"{names[id(module)]}.weight" for module in _ends(model))
    return {} if head in disk_of else {head: disk_of[embedding]}


def _ends(model: PreTrainedModel) -> tuple[Any, Any]:
    return model.get_output_embeddings(), model.get_input_embeddings()


def _untied_config(model: PreTrainedModel) -> dict[str, Any]:
    untied: dict[str, Any] = {"tie_word_embeddings": False}
    if model.config.get_text_config() is not model.config:
        untied["text_config"] = {"tie_word_embeddings": False}
    return untied


def _how(accounts: writers.Accounts, parameter: str) -> str:
    return "projected behind the norm's gain" if accounts.writers[parameter].norm else "projected"
