"""Which token of a chat prompt belongs to what: template, instruction or suffix, by character offsets."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.model.chat import chat, limits
from pipeline.model.loading.loading import ChatModel

REGIONS = ("before", "instruction", "suffix", "after")
BEFORE, INSTRUCTION, SUFFIX, AFTER = range(4)


@dataclass(frozen=True)
class Regioned:
    """A chat prompt as tokens, with the region of each (an index into REGIONS).

    `before` and `after` are the template's tokens. A token that straddles a boundary belongs to the
    region of its first character; `straddling` counts those.
    """

    tokens: tuple[int, ...]
    regions: tuple[int, ...]
    straddling: int

    def of(self, region: int) -> tuple[int, ...]:
        """The tokens of one region."""
        return tuple(token for token, where in zip(self.tokens, self.regions, strict=True) if where == region)


def join(instruction: str, suffix: str) -> str:
    """The user turn: instruction, a space (which belongs to the suffix), suffix; the instruction alone without one."""
    return f"{instruction} {suffix}" if suffix else instruction


def regioned(model: ChatModel, instruction: str, suffix: str = "") -> Regioned:
    """One chat prompt with the region of every token.

    Raises UserError when the template changes what the user writes, when the suffix merges with the
    template's tokens or writes some of its own, and when the prompt is longer than the model's context.
    """
    content = join(instruction, suffix)
    before, after = _frame(model)
    text = chat.render(model.tokenizer, content, model.format)
    if text != before + content + after:
        raise UserError("the chat template changes the text it is given, so regions cannot be told apart in it")
    bounds = (len(before), len(before) + len(instruction), len(before) + len(content), len(text))
    tokens, spans = _encode(model, text)
    regions = [_region(first, bounds) for first, _ in spans]
    straddling = sum(_region(first, bounds) != _region(max(first, last - 1), bounds) for first, last in spans)
    _require_sound(model, tokens, regions, content, suffix)
    return Regioned(tuple(tokens), tuple(regions), straddling)


def regioned_all(model: ChatModel, instructions: Sequence[str], suffix: str = "") -> list[Regioned]:
    """The same for many instructions."""
    return [regioned(model, instruction, suffix) for instruction in instructions]


def is_retokenised(model: ChatModel, prompt: Regioned, suffix: str) -> bool:
    """The suffix's tokens inside the prompt differ from those of the suffix (with its space) by itself."""
    [alone] = chat.encode_plain(model.tokenizer, [f" {suffix}"])
    return list(prompt.of(SUFFIX)) != alone


def _frame(model: ChatModel) -> tuple[str, str]:
    """The template's text before and after the user turn."""
    marker = chat.MARKERS[0]
    before, _, after = chat.render(model.tokenizer, marker, model.format).partition(marker)
    return before, after


def _encode(model: ChatModel, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    if not model.tokenizer.is_fast:
        raise UserError(f"the tokenizer of '{model.name}' gives no character offsets, so regions cannot be found")
    encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]  # type: ignore[return-value]


def _region(character: int, bounds: tuple[int, ...]) -> int:
    return next((region for region, end in enumerate(bounds) if character < end), AFTER)


def _require_sound(model: ChatModel, tokens: Sequence[int], regions: Sequence[int], content: str, suffix: str) -> None:
    shown = f"suffix {suffix[:20]!r}..." if suffix else "an instruction"
    tail = model.post_instruction
    if tuple(tokens[-len(tail) :]) != tail or any(region != AFTER for region in regions[-len(tail) :]):
        raise UserError(f"{shown} merges with the template's tokens after it: end it differently")
    inside = [token for token, where in zip(tokens, regions, strict=True) if where in (INSTRUCTION, SUFFIX)]
    special = sorted(set(inside) & set(model.tokenizer.all_special_ids))
    if special:
        raise UserError(f"{shown} holds special tokens of the template ({special}): remove them")
    limit = context_length(model)
    if limit is not None and len(tokens) > limit:
        raise UserError(f"{shown} makes a prompt of {len(tokens)} tokens, and the model reads {limit}: shorten it")


def context_length(model: ChatModel) -> int | None:
    """Tokens that the model was made to read; None where its configuration does not say."""
    return limits.context_length(model.hf)
