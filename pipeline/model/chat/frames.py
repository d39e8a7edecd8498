"""Where a chat template writes each turn, and whether it leaves them as they are."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from pipeline.config.chat import ChatFormat
from pipeline.errors import UserError
from pipeline.model.chat.bounded import unbounded
from pipeline.model.chat.template import bare, named, text_of, write

Span = tuple[int, int]
PLACES = 0xE100  # private-use characters, which stand for turns: no template knows them
# Shown to every template: capitals, blanks, markup and a second line, that a template may not change.
TRIAL = 'Name  <b>two</b> "A\'s" & {{ x }}\n\nIn \\n French'
MIXED = 6  # turns that a template may strip each in its own way: four ways of each are tried
KEPT = ("user", "system")  # turns that have to stand in the prompt; thoughts may be cut out of an answer


@dataclass(frozen=True)
class Frame:
    """What a template writes around turns of some roles: `pieces`, and between them `slots`, the turn's number.

    `parts`: whether each turn is sent as typed parts, since the template leaves plain text out.
    """

    roles: tuple[str, ...]
    pieces: tuple[str, ...]
    slots: tuple[int, ...]
    parts: tuple[bool, ...]

    def messages(self, contents: Sequence[str]) -> list[dict[str, Any]]:
        """Turns as this template reads them."""
        return [
            {"role": role, "content": [{"type": "text", "text": text}] if part else text}
            for role, text, part in zip(self.roles, contents, self.parts, strict=True)
        ]

    def spans(self, text: str, contents: Sequence[str]) -> list[Span] | None:
        """Where the turns stand in a prompt; None where it is not this frame around them, up to white space."""
        for strip in (str, str.strip, str.lstrip, str.rstrip):
            filled = [strip(contents[slot]) for slot in self.slots]
            if text == "".join(piece + own for piece, own in zip(self.pieces, [*filled, ""], strict=True)):
                return _ends(self.pieces, filled)
        if len(self.slots) > MIXED:
            return None
        pattern = re.escape(self.pieces[0])
        for slot, piece in zip(self.slots, self.pieces[1:], strict=True):
            own = contents[slot]
            ways = dict.fromkeys((own, own.strip(), own.lstrip(), own.rstrip()))
            pattern += f"({'|'.join(map(re.escape, ways))}){re.escape(piece)}"
        match = re.fullmatch(pattern, text)
        return [match.span(group + 1) for group in range(len(self.slots))] if match else None


def _ends(pieces: Sequence[str], filled: Sequence[str]) -> list[Span]:
    spans, at = [], 0
    for piece, own in zip(pieces, filled, strict=False):
        at += len(piece)
        spans.append((at, at + len(own)))
        at += len(own)
    return spans


_frames: dict[str, Frame] = {}
_tried: set[str] = set()


def frame(tokenizer: PreTrainedTokenizerBase, form: ChatFormat, roles: Sequence[str]) -> Frame:
    """The frame of such turns, from characters that stand for them.

    Raises UserError for a template that fails on them, takes for ever, or leaves a user's turn out however it is sent.
    """
    template = text_of(tokenizer, form)
    settings = [template, tokenizer.special_tokens_map, asdict(form), tokenizer.name_or_path]
    key = json.dumps([settings, list(roles)], sort_keys=True, default=str)
    if key not in _frames:
        _require_bounded(tokenizer, form, json.dumps(settings, sort_keys=True, default=str))
        if len(_frames) > 999:
            _frames.clear()
        _frames[key] = _frame(tokenizer, form, tuple(roles))
    return _frames[key]


def _require_bounded(tokenizer: PreTrainedTokenizerBase, form: ChatFormat, key: str) -> None:
    if key in _tried:
        return
    if why := unbounded(lambda: _trials(tokenizer, form)):
        raise UserError(
            f"{named(tokenizer, form)} does not end on a short turn ({why}): mend it, or choose another model"
        )
    if len(_tried) > 999:
        _tried.clear()
    _tried.add(key)


def _trials(tokenizer: PreTrainedTokenizerBase, form: ChatFormat) -> None:
    for roles in (("user",), ("system", "user"), ("user", "assistant", "user")):
        for content in (chr(PLACES), TRIAL, [{"type": "text", "text": TRIAL}]):
            try:
                bare(tokenizer, [{"role": role, "content": content} for role in roles], form)
            except MemoryError:
                raise
            except Exception:  # told where it happens again
                continue


def _frame(tokenizer: PreTrainedTokenizerBase, form: ChatFormat, roles: tuple[str, ...]) -> Frame:
    frames, errors = [], []
    users = tuple(role == "user" for role in roles)
    for parts in ((False,) * len(roles), users, (True,) * len(roles)):
        try:
            frames.append(_parted(tokenizer, form, roles, parts))
        except UserError as error:
            errors.append(error)
            continue
        if set(frames[-1].slots) == set(range(len(roles))):
            return frames[-1]
    for found in frames:
        if all(number in found.slots for number, user in enumerate(users) if user):
            return found
    if frames:
        raise UserError(f"{named(tokenizer, form)} leaves the instruction out, as text and as typed parts: mend it")
    if "system" not in roles and _writes(tokenizer, form, ("system", *roles)):
        raise UserError(f"{errors[0]}; it takes no prompt without a system turn: give it one as model.chat.system")
    raise errors[0]


def _writes(tokenizer: PreTrainedTokenizerBase, form: ChatFormat, roles: tuple[str, ...]) -> bool:
    try:
        return bool(_parted(tokenizer, form, roles, (False,) * len(roles)).slots)
    except UserError:
        return False


def _parted(
    tokenizer: PreTrainedTokenizerBase, form: ChatFormat, roles: tuple[str, ...], parts: tuple[bool, ...]
) -> Frame:
    places = [chr(PLACES + number) for number in range(len(roles))]
    text = write(tokenizer, Frame(roles, ("",), (), parts).messages(places), form)
    split = re.split(f"([{places[0]}-{places[-1]}])", text)
    return Frame(roles, tuple(split[::2]), tuple(ord(place) - PLACES for place in split[1::2]), parts)


def placed(
    tokenizer: PreTrainedTokenizerBase, form: ChatFormat, around: Frame, text: str, contents: Sequence[str]
) -> tuple[Span, ...] | None:
    """Where the turns stand in a prompt; None where the template's own text depends on theirs.

    Raises UserError when a turn does not stand in it as it was given, up to white space at its ends.
    """
    found, spans = around, around.spans(text, contents)
    if spans is None:  # a template may look at how long a turn is, or how many lines it has
        found = _shaped(tokenizer, form, around, contents)
        spans = found.spans(text, contents)
    for number, (role, content) in enumerate(zip(around.roles, contents, strict=True)):
        own = content.strip()
        written = sum(piece.count(own) for piece in around.pieces) if own else 0
        stands = number in found.slots if spans is not None else text.count(own) > written
        if role in KEPT and own and not stands:
            what = "instruction" if role == "user" else "system prompt"
            raise UserError(f"{named(tokenizer, form)} changes the {what} {own[:40]!r}, or cuts it: mend it")
    return None if spans is None else tuple(spans)


def _shaped(tokenizer: PreTrainedTokenizerBase, form: ChatFormat, around: Frame, contents: Sequence[str]) -> Frame:
    """The frame of turns that are as long as these, with their blanks in the same places."""
    shapes = [re.sub(r"\S", chr(PLACES + number), content) for number, content in enumerate(contents)]
    text = write(tokenizer, around.messages(shapes), form)
    wanted = {shape.strip(): number for number, shape in enumerate(shapes) if shape.strip()}
    split = re.split(f"({'|'.join(map(re.escape, wanted))})", text) if wanted else [text]
    return Frame(around.roles, tuple(split[::2]), tuple(wanted[shape] for shape in split[1::2]), around.parts)
