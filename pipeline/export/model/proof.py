"""The proof that an export is what it says: its files tensor by tensor, and its behaviour within stated bounds."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config.family import Family
from pipeline.disk.checkpoint import Checkpoint, open_checkpoint
from pipeline.errors import UserError
from pipeline.export.model import streaming
from pipeline.export.model.equivalence import Equivalence
from pipeline.export.model.streaming import Plan
from pipeline.maths.directions import Direction
from pipeline.model.passes.ticking import Advance, silent
from pipeline.model.writers import Edit

BLOCK = 2**22  # numbers in float64 at a time
CHUNK = 2**24  # bytes
# What may differ between export and live ablation, by the dtype of the comparison; COSINE: what the direction may keep
# of any resid_pre of the export, |cos|.
LOGITS = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.25}  # largest difference, of what ablation moves
ANSWERS = {"float32": 0.0, "bfloat16": 0.5, "float16": 0.5}  # share that may differ
BEHIND_NORM = 0.5  # largest difference of logits where a norm stands between a matrix and the stream, in any dtype
COSINE = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}


@dataclass(frozen=True)
class Bound:
    """`logits`: largest logit difference, as a share of what ablation itself moves; `answers`: share that may differ.

    Ties, where both models' favourite tokens are level within rounding, count as equal.
    """

    logits: float
    answers: float


def bound(exact: bool, dtype: str) -> Bound:
    """What an export may differ by from live ablation, in the dtype of the comparison.

    Of an exact family the two are one function, so that in float32 only rounding is left. Rounding the edited weights
    to 8 or 11 bits moves logits by more. Where a norm stands between a matrix and the stream, an edit clears the
    direction and leaves each write as ablation would up to one positive factor (docs/families.md).
    """
    return Bound(LOGITS[dtype], ANSWERS[dtype]) if exact else Bound(BEHIND_NORM, 1.0)


def require_equal(found: Equivalence, exact: bool, dtype: str) -> None:
    """Raises UserError naming the first bound that an export does not keep, and by how much."""
    limit = bound(exact, dtype)
    logits = found.logit_difference_max / found.effect_max if found.effect_max else float("inf")
    cosine = max(found.max_cosine_after)
    checks = [
        ("the largest logit difference, as a share of what ablation moves,", logits, limit.logits),
        ("the share of greedy answers that differ", found.greedy_different / found.n_prompts, limit.answers),
        ("the largest abs(cos) of resid_pre with the direction", cosine, COSINE[dtype]),
    ]
    for what, value, most in checks:
        if not value <= most:
            raise UserError(
                f"the export is not equal to live ablation: {what} is {value:.3g}, "
                f"and the bound in {dtype} is {most:g}; nothing is exported"
            )


def export(
    source: Path,
    folder: Path,
    family: Family,
    direction: Direction,
    progress: Callable[[str, int], AbstractContextManager[Callable[[float], None]]],
) -> Plan:
    """`streaming.export`, and what it wrote held against its source; a folder that does not hold is removed."""
    planned = streaming.export(source, folder, family, direction, progress)
    size = sum(row.n_bytes for row in open_checkpoint(folder).tensors.values())
    with discarded(folder), progress("reading the export anew", size) as advance:
        require_written(source, folder, planned, advance)
    return planned


@contextmanager
def discarded(folder: Path) -> Iterator[None]:
    """Remove the folder when a check in the block fails: gone on with, it would fail for ever."""
    try:
        yield
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def require_written(source: Path, folder: Path, planned: Plan, advance: Advance = silent) -> None:
    """Hold every tensor of an export against its source, read anew from both files.

    An edited one is W - along (normal . W), computed here by itself in float64, to within the rounding of its dtype;
    every other one equals its source byte for byte. Raises UserError naming the tensor.
    """
    before, after = open_checkpoint(source), open_checkpoint(folder)
    wanted = {**{name: name for name in before.tensors}, **planned.copies}
    if wanted.keys() != after.tensors.keys():
        odd = sorted(wanted.keys() ^ after.tensors.keys())
        raise UserError(f"the export has other tensors than its source, '{odd[0]}' first: nothing is exported")
    for name, old in wanted.items():
        if name in planned.edits and name not in planned.copies:
            excess = _excess(before.read(old), after.read(name), planned.edits[name])
            if not excess <= 1:
                raise UserError(
                    f"tensor '{name}' of the export is not its source with the direction projected out: off by "
                    f"{excess:.3g} times the rounding of {after.tensors[name].dtype}; nothing is exported"
                )
        elif not _same_bytes(before, old, after, name):
            raise UserError(f"tensor '{name}' of the export is not a copy of its source: nothing is exported")
        advance(float(after.tensors[name].n_bytes))


def _excess(before: Tensor, after: Tensor, edit: Edit) -> float:
    """Largest difference of `after` to the projection of `before`, in units of what rounding allows."""
    if before.shape != after.shape or before.dtype != after.dtype:
        return float("inf")
    info = torch.finfo(before.dtype)
    along, normal = edit.removed.along.double(), edit.removed.normal.double()
    worst = 0.0
    for w, out in _rows(before, after, edit.axis):
        wide = w.double()
        expected = wide - torch.outer(wide @ normal, along)
        # The last term is of float64 sums that cancel, far below any dtype's rounding of what is left.
        allowed = info.eps * expected.abs() + info.tiny * info.eps + 1e-13 * wide.abs().amax(dim=1, keepdim=True)
        difference = ((out.double() - expected).abs() / allowed).nan_to_num(nan=float("inf"))
        worst = max(worst, float(difference.max()))
    return worst


def _rows(before: Tensor, after: Tensor, axis: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Both tensors in blocks of rows, each row along d_model."""
    pair = [x.movedim(axis, -1) for x in (before, after)]
    if before.ndim == 1:
        yield pair[0][None], pair[1][None]
        return
    if before.ndim == 3:
        for one, other in zip(*pair, strict=True):
            yield from _rows(one, other, -1)
        return
    step = max(1, BLOCK // pair[0].shape[1])
    for start in range(0, pair[0].shape[0], step):
        yield pair[0][start : start + step], pair[1][start : start + step]


def _same_bytes(before: Checkpoint, old: str, after: Checkpoint, name: str) -> bool:
    one, other = before.tensors[old], after.tensors[name]
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with (before.folder / one.file).open("rb") as left, (after.folder / other.file).open("rb") as right:
        left.seek(one.start)
        right.seek(other.start)
        todo = one.n_bytes
        while todo:
            size = min(CHUNK, todo)
            if left.read(size) != right.read(size):
                return False
            todo -= size
    return True
