"""Is a family measured and edited exactly? Everything that can be compared on one model, compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.config.family import Family
from pipeline.disk import checkpoint
from pipeline.errors import UserError
from pipeline.export.model import proof, surgery
from pipeline.export.model.equivalence import Equivalence, compare
from pipeline.maths.directions import Direction, random_direction
from pipeline.maths.interventions import ActivationAddition
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel, load
from pipeline.model.passes import tracing
from pipeline.model.passes.forward import last_logits
from pipeline.model.passes.intervene import intervene
from pipeline.progress import byte_progress

INSTRUCTIONS = ("hello there", "tell me how bread rises, in two short sentences", "x", "name five warm colours")
N_TOKENS, MAX_TOKENS = 16, 10_000


@dataclass(frozen=True)
class Exactness:
    """Largest differences, in the units of what is compared; `nan` where an edit does not exist.

    `activations`: resid_pre against Hugging Face's hidden states. `additions`: logits under the
    weight edit against the live addition, at layer 0 and in the middle. `equal_tensors` of
    `n_tensors`: those of the streamed export that equal the in-memory one byte for byte.
    """

    activations: float
    residual_error: float
    equivalence: Equivalence
    addition_at_0: float
    addition: float
    addition_why: str
    n_edited: int
    n_writers: int
    equal_tensors: int
    n_tensors: int


def measure(family: Family, folder: Path, layer: int = 2, norm: float = 3.0, seed: int = 0) -> Exactness:
    """Every comparison on the model in `folder`, float32 on the CPU, with a random direction of that norm.

    Raises UserError when the model's self-check fails.
    """
    model = load(family.name, folder, family, "float32", "cpu")
    width = model.sites.head.in_features
    direction = random_direction(Direction(torch.full([width], norm / width**0.5), layer, -1), seed)
    prompts = model.encode(INSTRUCTIONS)
    at_zero, _ = _addition(model, folder, prompts, Direction(direction.vector, 0, -1))
    addition, why = _addition(model, folder, prompts, direction)
    with TemporaryDirectory() as scratch:
        streamed, saved = Path(scratch) / "streamed", Path(scratch) / "saved"
        coverage = proof.export(folder, streamed, family, direction, byte_progress).coverage
        exported = load(family.name, streamed, family, "float32", "cpu")
        equivalence = compare(model, exported, prompts, direction, N_TOKENS, MAX_TOKENS)
        activations = float((tracing.resid_pre(model, prompts, 3) - _hidden_states(model, prompts)[:, -3:]).abs().max())
        edited = load(family.name, folder, family, "float32", "cpu")
        surgery.untie(edited)
        surgery.orthogonalize_weights(edited, direction)
        edited.hf.save_pretrained(saved)
        equal, total = _equal_tensors(streamed, saved)
    return Exactness(
        activations=activations,
        residual_error=model.report.residual_error,
        equivalence=equivalence,
        addition_at_0=at_zero,
        addition=addition,
        addition_why=why,
        n_edited=coverage["n_edited"],
        n_writers=coverage["n_writers"],
        equal_tensors=equal,
        n_tensors=total,
    )


@torch.inference_mode()
def _hidden_states(model: ChatModel, prompts: Sequence[Sequence[int]]) -> Float[Tensor, "prompt token layer d_model"]:
    """Hugging Face's own record of every block's input."""
    inputs = chat.pad_left(prompts, model.pad_id).inputs(model.hf)
    out = model.hf(**inputs, output_hidden_states=True, use_cache=False)
    return torch.stack(out.hidden_states[:-1], dim=2)


def _addition(
    model: ChatModel, folder: Path, prompts: Sequence[Sequence[int]], direction: Direction
) -> tuple[float, str]:
    """Largest logit difference of the weight edit to the live addition, or nan and why there is no edit."""
    addition = ActivationAddition(direction)
    edited = load(model.name, folder, model.sites.family, "float32", "cpu")
    surgery.untie(edited)
    try:
        surgery.add_to_weights(edited, addition)
    except UserError as error:
        return float("nan"), str(error)
    with intervene(model, addition):
        live = last_logits(model, prompts, MAX_TOKENS)
    return float((last_logits(edited, prompts, MAX_TOKENS) - live).abs().max()), ""


def _equal_tensors(streamed: Path, saved: Path) -> tuple[int, int]:
    ours, theirs = checkpoint.open_checkpoint(streamed), checkpoint.open_checkpoint(saved)
    names = ours.tensors.keys() | theirs.tensors.keys()
    both = ours.tensors.keys() & theirs.tensors.keys()
    return sum(torch.equal(ours.read(name), theirs.read(name)) for name in both), len(names)
