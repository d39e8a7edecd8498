"""Chat templates and tokens."""

import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import torch
from jaxtyping import Int
from jinja2 import TemplateError
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from pipeline.errors import UserError
from pipeline.model.chatformat import PLAIN, ChatFormat
from pipeline.model.sites import input_device

# Instructions that end differently. No tokenizer merges private-use characters with a template; where it
# does not know them they are all one token, hence the words.
MARKERS = ("\ue000\ue001", "\ue002\ue003\ue004", "violin", "quartz")


def render(
    tokenizer: PreTrainedTokenizerBase,
    instruction: str,
    form: ChatFormat = PLAIN,
    thoughts: bool = False,
    system: str | None = None,
) -> str:
    """The chat prompt of one user turn: the next token is the first of the answer.

    With `thoughts`, a model that thinks before it answers (`answer_marker`) is left to begin with them.
    `system` is the system prompt; None is what the template does by itself.
    """
    turn = [{"role": "user", "content": instruction}]
    if system is not None:
        turn = [{"role": "system", "content": system}, *turn]
    text = render_turns(tokenizer, turn, form)
    wanted = form.answer_prefix and not text.endswith(form.answer_prefix) and not (thoughts and form.answer_marker)
    return text + form.answer_prefix if wanted else text


def render_turns(tokenizer: PreTrainedTokenizerBase, turns: Sequence[dict[str, str]], form: ChatFormat = PLAIN) -> str:
    """A conversation of turns {role, content} as the template writes it, up to where the next answer begins."""
    with _day(form.date):
        text = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True, **form.options)
    assert isinstance(text, str)
    return text


def without_effect(tokenizer: PreTrainedTokenizerBase, system: str, form: ChatFormat = PLAIN) -> str:
    """Why a system prompt cannot be measured with this chat template; empty when it can."""
    instruction = MARKERS[0]
    try:
        asked = render(tokenizer, instruction, form, system=system)
    except (TemplateError, ValueError):
        return "the chat template takes no system prompt"
    if asked == render(tokenizer, instruction, form):
        return "the prompt is the same as without it"
    if instruction not in asked or system.strip() not in asked:
        return "the chat template leaves it out"
    return ""


def answer(completion: str, form: ChatFormat) -> str | None:
    """What follows a model's thoughts; None when they did not end."""
    if not form.answer_marker:
        return completion
    _, marker, rest = completion.rpartition(form.answer_marker)
    return rest if marker else None


@contextmanager
def _day(iso: str) -> Iterator[None]:
    """Templates that ask for today's date get this one."""
    fixed = datetime.fromisoformat(iso)
    templates: Any = chat_template_utils
    original = templates.datetime
    templates.datetime = type("FixedDay", (datetime,), {"now": classmethod(lambda cls, tz=None: fixed)})
    try:
        yield
    finally:
        templates.datetime = original


def require_template(tokenizer: PreTrainedTokenizerBase, model: str) -> None:
    """Raises UserError when the tokenizer has no chat template."""
    if not tokenizer.chat_template:
        raise UserError(
            f"model '{model}' has no chat template, so refusal cannot be measured on it: "
            "use its instruction-tuned version"
        )


def encode(
    tokenizer: PreTrainedTokenizerBase,
    instructions: Sequence[str],
    form: ChatFormat = PLAIN,
    thoughts: bool = False,
    system: str | None = None,
) -> list[list[int]]:
    """Token ids of each instruction's chat prompt; the template's own BOS, if any, and no second one."""
    texts = [render(tokenizer, instruction, form, thoughts, system) for instruction in instructions]
    return tokenizer(texts, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]


def decode(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], skip_special: bool = False) -> str:
    """Tokens as text."""
    return str(tokenizer.decode(list(tokens), skip_special_tokens=skip_special))


def post_instruction_tokens(tokenizer: PreTrainedTokenizerBase, form: ChatFormat = PLAIN) -> list[int]:
    """The template's tokens after the instruction: the positions the paper looks at (section 2.3).

    Found from the template itself: the tokens that the chat prompts of different instructions share
    at their end. The text after the instruction is not tokenised by itself, since some tokenizers
    (Llama 2's) put a space before whatever begins a text.
    """
    texts = [render(tokenizer, marker, form) for marker in MARKERS]
    tails = {text.rpartition(marker)[2] for text, marker in zip(texts, MARKERS, strict=True)}
    prompts: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
    count = shared_prefix([prompt[::-1] for prompt in prompts])
    if len(tails) != 1 or count == 0:
        raise UserError(
            "the chat template has no fixed text after the instruction, so positions cannot be counted "
            "from the end: choose another model or repair its template"
        )
    return prompts[0][-count:]


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of all that turns text into tokens; of the vocabulary alone where there is no fast tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of the chat template."""
    return hashlib.sha256(json.dumps(tokenizer.chat_template, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Padded:
    """Left-padded prompts; `position_ids` count real tokens only, so padding changes nothing."""

    input_ids: Int[Tensor, "prompt token"]
    attention_mask: Int[Tensor, "prompt cached_and_token"]
    position_ids: Int[Tensor, "prompt token"]

    def inputs(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """Arguments of the model's forward pass, on its device; ALiBi models count positions from the mask."""
        tensors = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        if "position_ids" in inspect.signature(model.forward).parameters:
            tensors["position_ids"] = self.position_ids
        return {name: tensor.to(input_device(model)) for name, tensor in tensors.items()}


def pad_left(prompts: Sequence[Sequence[int]], pad_id: int, n_before: int = 0, extra: int = 0) -> Padded:
    """Pad token lists on the left, `extra` tokens wider than the longest needs.

    `n_before`: tokens already in the KV cache before every row.
    """
    width = max(map(len, prompts)) + extra
    ids = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, tokens in enumerate(prompts):
        ids[row, width - len(tokens) :] = torch.tensor(tokens)
        mask[row, width - len(tokens) :] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0) + n_before
    whole = torch.cat([torch.ones((len(prompts), n_before), dtype=torch.long), mask], dim=1)
    return Padded(ids, whole, positions)


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all prompts share, leaving at least one token in each."""
    shortest = min(map(len, prompts))
    first = prompts[0]
    for index in range(shortest - 1):
        if any(tokens[index] != first[index] for tokens in prompts):
            return index
    return shortest - 1


def single_token_ids(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> Int[Tensor, " token"]:
    """Token id of each word. Raises UserError for a word that is not one token of this model."""
    ids = []
    for word in words:
        encoded: list[int] = tokenizer(word, add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
        if len(encoded) != 1:
            raise UserError(
                f"refusal token '{word}' is {len(encoded)} tokens in this tokenizer, not 1: "
                "mend refusal_tokens in conf/family/"
            )
        ids.append(encoded[0])
    return torch.tensor(ids)


def token_ids(ids: Sequence[int]) -> Int[Tensor, " token"]:
    """Token ids as a tensor."""
    return torch.tensor(list(ids), dtype=torch.long)


def encode_plain(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], special: bool = False) -> list[list[int]]:
    """Token ids of text without template; `special`: with the BOS that the tokenizer begins a document with."""
    return tokenizer(list(texts), add_special_tokens=special)["input_ids"]  # type: ignore[return-value]
