"""What one look at an opened model tells: its parts, its format, and how exact an edit of its weights is."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.export.model import surgery
from pipeline.maths.directions import Direction, random_direction
from pipeline.maths.interventions import DirectionalAblation
from pipeline.model.chat import chat, limits, thoughts
from pipeline.model.generation import decoding
from pipeline.model.loading import whole
from pipeline.model.loading.loading import DTYPES, ChatModel
from pipeline.model.passes.forward import last_logits
from pipeline.model.passes.intervene import intervene

INSTRUCTIONS = ("Say hello.", "How does bread rise? Answer in two short sentences.", "Name five warm colours.", "x")
MAX_TOKENS = 4096


@dataclass(frozen=True)
class Shape:
    """An architecture's numbers; `context` in tokens, None where the configuration states none."""

    architecture: str
    model_type: str
    blocks: int
    width: int
    vocabulary: int
    context: int | None


@dataclass(frozen=True)
class Edit:
    """Orthogonalised weights against live ablation of a random direction, in the dtype that the model is loaded in.

    Largest logit difference, and what the ablation itself moves, over a few short prompts.
    """

    difference: float
    effect: float


def shape(model: ChatModel) -> Shape:
    """Read off the configuration as loaded."""
    return Shape(
        architecture=type(model.hf).__name__,
        model_type=str(model.hf.config.model_type),
        blocks=model.n_layers,
        width=model.sites.head.in_features,
        vocabulary=model.sites.head.out_features,
        context=limits.context_length(model.hf),
    )


def end_tokens(model: ChatModel) -> list[str]:
    """Tokens that end an answer, as text."""
    return [chat.decode(model.tokenizer, [token]) for token in sorted(decoding.stop_tokens(model))]


def how_thoughts_end(model: ChatModel) -> str:
    """How a prompt gets past the thoughts that a model, or its template, would begin with."""
    form = model.format
    if form.answer_marker:
        return f"they end with {form.answer_marker!r}; prompts go on with {form.answer_prefix!r}"
    if form.answer_prefix:
        return f"prompts go on with {form.answer_prefix!r}"
    closed = thoughts.closing(model.tokenizer, form)
    return f"the template opens them; closed by {closed!r}" if closed else "none: the answer begins at once"


def speed(model: ChatModel, dtype: str) -> float:
    """Tokens a second through the model, prompts of a usual length in one batch; it is of this dtype afterwards."""
    if model.hf.dtype != DTYPES[dtype]:
        model.hf.to(DTYPES[dtype])  # type: ignore[arg-type]  # the library hides torch's overloads
    tokens = model.encode([f"{INSTRUCTIONS[1] * 3} {letter}" for letter in "abcd"])
    last_logits(model, tokens, MAX_TOKENS)  # the first pass is slower
    start = time.perf_counter()
    last_logits(model, tokens, MAX_TOKENS)
    return sum(map(len, tokens)) / (time.perf_counter() - start)


def edited(model: ChatModel, seed: int = 0) -> Edit | None:
    """Ablate a random direction live, then in the weights; the model is another one afterwards.

    None where weights are packed or on disk, and cannot be edited.
    """
    if not surgery.is_editable(model):
        return None
    width = model.sites.head.in_features
    direction = random_direction(Direction(torch.full([width], width**-0.5), 0, -1), seed)
    prompts = model.encode(INSTRUCTIONS)
    plain = last_logits(model, prompts, MAX_TOKENS)
    with intervene(model, DirectionalAblation(direction)):
        live = last_logits(model, prompts, MAX_TOKENS)
    surgery.untie(model)
    surgery.orthogonalize_weights(model, direction)
    after = last_logits(model, prompts, MAX_TOKENS)
    return Edit(float((after - live).abs().max()), float((live - plain).abs().max()))


def refusal_tokens(model: ChatModel, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Refusal tokens that this tokenizer has, and those that it splits."""
    lengths = {word: len(chat.encode_plain(model.tokenizer, [word])[0]) for word in words}
    return [word for word in words if lengths[word] == 1], [word for word in words if lengths[word] != 1]


def tensors(model: ChatModel, folder: Any) -> whole.Tensors | None:
    """The files' tensors by what becomes of them; None for packed ones."""
    stored = whole.require_files(model.name, folder)
    return whole.account(model.name, model.hf, stored) if stored else None
