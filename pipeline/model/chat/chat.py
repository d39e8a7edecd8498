"""Chat templates and tokens."""

import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.config.chat import PLAIN, ChatFormat
from pipeline.errors import UserError
from pipeline.model.chat import as_text as astext
from pipeline.model.chat import frames, template
from pipeline.model.chat.as_text import Prompt
from pipeline.model.chat.template import Turns
from pipeline.model.chat.thoughts import closing
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
    `system` is the system prompt; None is what the template does by itself. A thought that the template
    opens is closed, where the format says nothing of it.
    """
    return _prompt(tokenizer, instruction, form, thoughts, system).text


def _prompt(
    tokenizer: PreTrainedTokenizerBase, instruction: str, form: ChatFormat, thoughts: bool, system: str | None
) -> Prompt:
    prompt = turns_prompt(tokenizer, _turns(instruction, form, system), form)
    text = prompt.text
    wanted = form.answer_prefix and not text.endswith(form.answer_prefix) and not (thoughts and form.answer_marker)
    return replace(prompt, text=text + form.answer_prefix) if wanted else prompt


def _turns(instruction: str, form: ChatFormat, system: str | None = None) -> Turns:
    turn = {"role": "user", "content": instruction}
    if system is None and not form.system:
        return [turn]
    return [{"role": "system", "content": form.system if system is None else system}, turn]


def turns_prompt(tokenizer: PreTrainedTokenizerBase, turns: Turns, form: ChatFormat = PLAIN) -> Prompt:
    """A conversation of turns {role, content} as the template writes it, up to where the next answer begins.

    Raises UserError when the template fails, or leaves out, cuts or changes what a user or the system says.
    """
    around = frames.frame(tokenizer, form, [turn["role"] for turn in turns])
    contents = tuple(turn["content"] for turn in turns)
    text = template.write(tokenizer, around.messages(contents), form)
    spans = frames.placed(tokenizer, form, around, text, contents)
    return Prompt(text + closing(tokenizer, form), contents, spans)


def encode_turns(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Turns], form: ChatFormat = PLAIN
) -> list[list[int]]:
    """Token ids of whole conversations, up to where the next answer begins."""
    return astext.encode(tokenizer, [turns_prompt(tokenizer, turns, form) for turns in conversations], form)


def own_system(tokenizer: PreTrainedTokenizerBase, form: ChatFormat = PLAIN) -> str:
    """The system prompt of prompts that are given none: the format's, else what the template writes in its place.

    Empty where it writes nothing there, or takes no system prompt.
    """
    if form.system:
        return form.system
    try:
        around = frames.frame(tokenizer, form, ("system", "user"))
    except UserError:
        return ""
    alone = frames.frame(tokenizer, form, ("user",)).pieces[0]
    if around.slots[:2] != (0, 1):
        return ""
    before, after = around.pieces[:2]
    there = alone.startswith(before) and alone.endswith(after) and len(alone) >= len(before) + len(after)
    return alone[len(before) : len(alone) - len(after)] if there else ""


def without_effect(tokenizer: PreTrainedTokenizerBase, system: str, form: ChatFormat = PLAIN) -> str:
    """Why a system prompt cannot be measured with this chat template; empty when it can."""
    instruction = MARKERS[0]
    try:
        around = frames.frame(tokenizer, form, ("system", "user"))
        asked = template.write(tokenizer, around.messages((system, instruction)), form)
    except UserError:
        return "the chat template takes no system prompt"
    if asked + closing(tokenizer, form) == turns_prompt(tokenizer, _turns(instruction, form), form).text:
        return "the prompt is the same as without it"
    if instruction not in asked or system.strip() not in asked:
        return "the chat template leaves it out"
    return ""


def require_template(tokenizer: PreTrainedTokenizerBase, model: str, form: ChatFormat = PLAIN) -> None:
    """Raises UserError without a chat template, with several of which none is chosen, or one that cannot be used."""
    tokenizer.name_or_path = model  # so that errors name it
    template.text_of(tokenizer, form)
    turns_prompt(tokenizer, _turns(frames.TRIAL, form), form)  # or it changes what users write


def encode(
    tokenizer: PreTrainedTokenizerBase,
    instructions: Sequence[str],
    form: ChatFormat = PLAIN,
    thoughts: bool = False,
    system: str | None = None,
) -> list[list[int]]:
    """Token ids of each instruction's chat prompt; the template's own BOS, if any, and no second one.

    Special tokens in an instruction are text like any other, unless the format says otherwise.
    """
    prompts = [_prompt(tokenizer, instruction, form, thoughts, system) for instruction in instructions]
    return astext.encode(tokenizer, prompts, form)


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


def template_hash(tokenizer: PreTrainedTokenizerBase, form: ChatFormat = PLAIN) -> str:
    """sha256 of the chat template, of the chosen one where the format names it."""
    used = template.text_of(tokenizer, form) if form.template else tokenizer.chat_template
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()


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
