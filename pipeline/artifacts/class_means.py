"""What stage `activations` writes: the filter's rows and counts, means of `resid_pre`, single rows when asked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.disk import files, tensors
from pipeline.maths.selection import FITTED_SETS, FilterVerdict

if TYPE_CHECKING:  # loading torch takes a second, and whoever has tensors has loaded it
    from torch import Tensor

AXES = "position layer d_model"


def write_means(path: Path, means: Mapping[str, "Tensor"], model: str, positions: Sequence[int]) -> None:
    """Mean and variance of `resid_pre` per class; `model` pins the bytes of the weights they were read from."""
    metadata = {
        "model": model,
        "axes": AXES,
        "post_instruction_tokens": " ".join(map(str, positions)),
    }
    tensors.write_tensors(path, means, metadata)


def write_resid_pre(path: Path, rows: "Tensor", model: str) -> None:
    """`resid_pre` of every kept train prompt of a class, in the order of the kept prompts."""
    tensors.write_tensors(path, {"resid_pre": rows}, {"model": model, "axes": "prompt position layer d_model"})


def read_means(path: Path, model: str) -> "dict[str, Tensor]":
    """Mean and variance of `resid_pre` per class, as `write_means` wrote them. Raises UserError for anything else."""
    names = ("harmful_mean", "harmful_variance", "harmless_mean", "harmless_variance")
    means = tensors.read_tensors(path, model=model, axes=AXES)
    shapes = {tuple(tensor.shape) for tensor in means.values()}
    tensors.require(path, means.keys() == set(names), f"does not hold {', '.join(names)}")
    tensors.require(path, len(shapes) == 1 and len(next(iter(shapes))) == 3, "holds tensors of other shapes")
    tensors.require(path, {str(tensor.dtype) for tensor in means.values()} == {"torch.float64"}, "is not in float64")
    return means


def require_width(path: Path, vector: "Tensor", means: "Mapping[str, Tensor]") -> None:
    """Raises UserError for the direction of a file that is not as wide as the means."""
    tensors.require(path, len(vector) == means["harmful_mean"].shape[2], "is of another width than the means")


def write_baseline(path: Path, baseline: Iterable[Mapping[str, Any]], kept: Mapping[str, list[str]]) -> None:
    """Refusal metric of every train and val prompt, and whether the filter kept it."""
    ids = {name: set(rows) for name, rows in kept.items()}
    files.write_jsonl(path, [{**row, "kept": row["id"] in ids[row["set"]]} for row in baseline])


def write_filter_summary(
    path: Path,
    verdict: FilterVerdict,
    prompts: Mapping[str, Sequence[Any]],
    kept: Mapping[str, Sequence[str]],
    position_tokens: Sequence[str],
    measured: Mapping[str, str],
) -> None:
    """Counts before and after the filter, its verdict, the post-instruction tokens, and what measured them."""
    counts = {name: {"n": len(prompts[name]), "kept": len(kept[name])} for name in FITTED_SETS}
    files.write_json(
        path, {**asdict(verdict), "sets": counts, "position_tokens": list(position_tokens), "measured": dict(measured)}
    )
