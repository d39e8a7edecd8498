"""Special tokens that stand in what a user writes, read as text; those that the template writes stay special."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from pipeline.config.chat import ChatFormat
from pipeline.errors import UserError
from pipeline.model.chat.frames import Span
from pipeline.model.chat.template import named, text_of

FIRST, LAST, BASE = "\U000fff00", "\U000fff01", 0xF0000  # private use, around the number of a template's token


@dataclass(frozen=True)
class Prompt:
    """A prompt as text, with what users wrote of it: `spans`, None where that cannot be told from the template."""

    text: str
    contents: tuple[str, ...]
    spans: tuple[Span, ...] | None


def encode(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], form: ChatFormat) -> list[list[int]]:
    """Token ids of prompts; only where a user's text holds a special token are they not the tokenizer's own."""
    rows: list[list[int]] = tokenizer([prompt.text for prompt in prompts], add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
    if form.read_special:
        return rows
    special = specials(tokenizer, form)
    pattern = matching(special)
    counted = _counted(tokenizer, special)
    for number, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        held = any(pattern.search(content) for content in prompt.contents)
        if not held and prompt.spans is not None:
            # A token may also come of what stands at both sides of a boundary, or of a normalised text.
            written = sum(len(pattern.findall(piece)) for piece in _pieces(prompt)[::2])
            found = sum(token in counted for token in row)
            held = found > written and found > _alone(tokenizer, prompt, counted)
        if held:
            rows[number] = _as_text(tokenizer, prompt, form, special, pattern)
    return rows


def specials(tokenizer: PreTrainedTokenizerBase, form: ChatFormat) -> dict[str, int]:
    """Ids of special tokens, and of further added ones that the template marks turns and thoughts with."""
    template = text_of(tokenizer, form)
    return {
        str(token): id_
        for id_, token in tokenizer.added_tokens_decoder.items()
        if str(token) and (token.special or (str(token)[0] in "<[" and str(token) in template))
    }


def _counted(tokenizer: PreTrainedTokenizerBase, special: dict[str, int]) -> set[int]:
    unknown: Any = tokenizer.unk_token_id  # any text may hold what the tokenizer does not know
    return set(special.values()) - {unknown}


def matching(special: dict[str, int]) -> re.Pattern[str]:
    """Finds special tokens as tokenizers do: the leftmost, and of those the longest."""
    return re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")


def _pieces(prompt: Prompt) -> list[str]:
    """The template's text, the user's, the template's, and so on."""
    pieces, at = [], 0
    for start, end in prompt.spans or ():
        pieces += [prompt.text[at:start], prompt.text[start:end]]
        at = end
    return [*pieces, prompt.text[at:]]


def _alone(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, counted: set[int]) -> int:
    """Special tokens of the prompt with nothing in it."""
    ids: list[int] = tokenizer("x".join(_pieces(prompt)[::2]), add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
    return sum(token in counted for token in ids)


def _as_text(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, form: ChatFormat, special: dict[str, int], pattern: re.Pattern
) -> list[int]:
    # The template's tokens get names that no user writes, in a tokenizer that knows them by these names alone:
    # all else about it is the same, so that the rest of the prompt is cut as ever.
    where = f"{named(tokenizer, form)}: an instruction holds a special token, {_shown(prompt, pattern)}, which"
    way_out = "take it out, or set model.chat.read_special=true"
    if prompt.spans is None:
        raise UserError(f"{where} cannot be told from the template's own: {way_out}")
    if not tokenizer.is_fast:
        raise UserError(f"{where} this tokenizer cannot read as text: {way_out}")
    if any(letter in content for letter in (FIRST, LAST) for content in prompt.contents):
        raise UserError(f"{where} stands beside characters of private use (U+FFF00): {way_out}")
    renamed, ids = _renamed(tokenizer, special)
    aliases = {token: _alias(id_) for token, id_ in special.items()}
    pieces = _pieces(prompt)
    pieces[::2] = [pattern.sub(lambda match: aliases[match[0]], piece) for piece in pieces[::2]]
    encoded = renamed.encode("".join(pieces), add_special_tokens=False)
    row = [ids.get(token, id_) for token, id_ in zip(encoded.tokens, encoded.ids, strict=True)]
    counted = _counted(tokenizer, special)
    ours = set(aliases.values())
    if any(id_ in counted and token not in ours for token, id_ in zip(encoded.tokens, row, strict=True)):
        raise UserError(f"{where} this tokenizer makes of plain text too: {way_out}")
    return row


def _shown(prompt: Prompt, pattern: re.Pattern) -> str:
    found = (pattern.search(content) for content in prompt.contents)
    return repr(next((match[0] for match in found if match), "at its end"))


def _alias(id_: int) -> str:
    return f"{FIRST}{chr(BASE + id_ // 50_000)}{chr(BASE + id_ % 50_000)}{LAST}"


_copies: WeakKeyDictionary = WeakKeyDictionary()  # of tokenizers, since a copy takes seconds


def _renamed(tokenizer: PreTrainedTokenizerBase, special: dict[str, int]) -> tuple[Tokenizer, dict[str, int]]:
    """The tokenizer with its special tokens by another name, and the ids of its added tokens by name."""
    known, renamed, ids = _copies.get(tokenizer, ({}, None, {}))
    if renamed is None or known != special:
        text = tokenizer.backend_tokenizer.to_str()  # type: ignore[attr-defined]
        content: dict[str, Any] = json.loads(text) | {"post_processor": None, "truncation": None, "padding": None}
        ids = {}
        for token in content["added_tokens"]:
            if token["content"] in special:
                token["content"] = _alias(token["id"])
            ids[token["content"]] = token["id"]
        renamed = Tokenizer.from_str(json.dumps(content))
        _copies[tokenizer] = special, renamed, ids
    return renamed, ids
