"""Which parameters write to the residual stream, and how each is projected: names and shapes, no model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from re import escape, fullmatch

from jaxtyping import Float
from torch import Tensor

from pipeline.config.family import Family, Norm, Write
from pipeline.errors import UserError
from pipeline.maths.interventions import Projection, projection, projection_behind_norm


@dataclass(frozen=True)
class Writer:
    """A parameter that writes: d_model lies along `axis`; `norm` stands between it and the stream."""

    axis: int
    norm: Norm | None
    gain: str


@dataclass(frozen=True)
class Accounts:
    """Every parameter of a model by what it does; `others` are gains of norms, readers and the unembedding."""

    writers: Mapping[str, Writer]
    others: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Edit:
    """The projection of one parameter whose `axis` is d_model."""

    axis: int
    removed: Projection


def account(names: Iterable[str], family: Family) -> Accounts:
    """Give every parameter its part.

    Raises UserError naming a parameter that the family file does not know, and a block without a
    writer of its attention or its MLP: what is not known could write unseen.
    """
    writers: dict[str, Writer] = {}
    others: list[str] = []
    named: dict[str, set[str]] = {}
    for name in names:
        block, relative = _split(name, family)
        writes = (
            {"embedding": family.embedding} if block is None else {"attention": family.attention, "mlp": family.mlp}
        )
        prefix = name.removesuffix(relative)
        part = next((part for part, write in writes.items() if _axis(relative, write) is not None), None)
        named.setdefault(prefix, set())
        if part is not None:
            named[prefix].add(part)
            writers[name] = _writer(prefix, relative, writes[part])
        elif _is_known(relative, writes.values(), family.outside if block is None else family.readers):
            others.append(name)
        else:
            raise UserError(
                f"family '{family.name}' does not know parameter '{name}': it may write to the residual stream; "
                "name it in conf/family/ as a writer or a reader"
            )
    for prefix, parts in named.items():
        for missing in ({"embedding"} if not prefix else {"attention", "mlp"}) - parts:
            raise UserError(
                f"family '{family.name}' finds no parameter of the {missing} write in '{prefix or 'the model'}': "
                "mend conf/family/"
            )
    return Accounts(writers, tuple(others))


def edits(accounts: Accounts, read: Callable[[str], Tensor], r_hat: Float[Tensor, " d_model"]) -> dict[str, Edit]:
    """The projection of every writer; `read(name)` gives a norm's gain. Computed in float64."""
    return {
        name: Edit(writer.axis, _removed(writer, read, r_hat.double())) for name, writer in accounts.writers.items()
    }


def _removed(writer: Writer, read: Callable[[str], Tensor], r_hat: Tensor) -> Projection:
    if writer.norm is None:
        return projection(r_hat)
    gain = read(writer.gain).to(r_hat.device, r_hat.dtype) + writer.norm.offset
    return projection_behind_norm(r_hat, gain, writer.norm.centred)


def _split(name: str, family: Family) -> tuple[int | None, str]:
    match = fullmatch(rf"{escape(family.blocks)}\.(\d+)\.(.+)", name)
    return (int(match[1]), match[2]) if match else (None, name)


def _axis(relative: str, write: Write) -> int | None:
    return next((parameter.axis for parameter in write.parameters if parameter.name == relative), None)


def _writer(prefix: str, relative: str, write: Write) -> Writer:
    axis = _axis(relative, write)
    assert axis is not None
    owner = relative.rpartition(".")[0]
    # A norm's own bias is added after it, so nothing stands between that and the stream.
    if write.norm is None or owner == write.norm.gain.rpartition(".")[0]:
        return Writer(axis, None, "")
    return Writer(axis, write.norm, prefix + write.norm.gain)


def _is_known(relative: str, writes: Iterable[Write], readers: Iterable[str]) -> bool:
    gains = [write.norm.gain for write in writes if write.norm]
    return relative in gains or any(fnmatchcase(relative, glob) for glob in readers)


def require_width(name: str, shape: tuple[int, ...], edit: Edit) -> None:
    """Raises UserError when the direction is not as wide as the residual stream."""
    if shape[edit.axis] != len(edit.removed.normal):
        raise UserError(
            f"the direction has {len(edit.removed.normal)} components and '{name}' writes {shape[edit.axis]}: "
            "it belongs to another model"
        )
