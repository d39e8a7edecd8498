"""Where a model's thoughts begin and end: a template that opens one, an answer that follows one."""

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from pipeline.config.chat import ChatFormat
from pipeline.errors import UserError
from pipeline.model.chat.frames import frame
from pipeline.model.chat.template import roles_of

# What opens a thought at the end of a prompt, and what closes it.
OPENINGS = (
    (r"<(?P<name>[A-Za-z][\w:.-]*)>", "</{name}>"),
    (r"\[(?P<name>[A-Z][A-Z_]*)\]", "[/{name}]"),
    (r"<\|START_(?P<name>\w+)\|>", "<|END_{name}|>"),
    (r"<\|(?P<begin>begin|start)_of_(?P<name>\w+)\|>", "<|end_of_{name}|>"),
)
# What opens an answer, where the template's own history does not show it.
ANSWER = re.compile("assistant|bot|model|ai|answer|response|reply|final|output", re.IGNORECASE)
THOUGHT = re.compile("think|thought|reason|reflect|analy|scratch", re.IGNORECASE)


def closing(tokenizer: PreTrainedTokenizerBase, form: ChatFormat) -> str:
    """Text that ends the thought which the template opens at the end of a prompt; empty where it opens none.

    Nothing where the format says itself how an answer begins or what ends a thought.
    """
    if form.answer_prefix or form.answer_marker:
        return ""
    end = frame(tokenizer, form, roles_of(form)).pieces[-1]
    for opening, closes in OPENINGS:
        match = re.search(rf"{opening}(?P<blank>\s*)$", end)
        if match and _is_thought(tokenizer, form, match[0], match["name"]):
            own = closes.format(name=match["name"])
            if not opening.startswith("<(") and own not in tokenizer.get_vocab():
                continue  # brackets and bars are other things too; these have a token each
            # As the templates that can leave a thought empty write it: "<think>\n\n</think>\n\n".
            blank = match["blank"]
            return f"{'' if len(blank) > 1 else chr(10) * (2 - len(blank))}{own}\n\n"
    return ""


def _is_thought(tokenizer: PreTrainedTokenizerBase, form: ChatFormat, opening: str, name: str) -> bool:
    """A tag that every answer begins with is the turn's own header."""
    if ANSWER.fullmatch(name):
        return False
    try:
        turns = frame(tokenizer, form, (*roles_of(form), "assistant", "user"))
        before = turns.pieces[turns.slots.index(len(turns.roles) - 2)]
    except (UserError, ValueError):  # it takes no earlier answers, or leaves them out
        return bool(THOUGHT.search(name))
    return not before.rstrip().endswith(opening.rstrip())


def remarks(tokenizer: PreTrainedTokenizerBase, form: ChatFormat) -> list[str]:
    """What a user should know of how the template is used."""
    said, own = [], closing(tokenizer, form)
    model = f"model '{tokenizer.name_or_path}'"
    if any(frame(tokenizer, form, roles_of(form)).parts):
        said.append(f"{model}: its chat template leaves plain text out, so instructions are sent as typed parts")
    if own:
        said.append(
            f"{model}: its chat template opens a thought, which is closed by {own!r}, so that the answer comes next; "
            "set model.chat.answer_prefix and answer_marker to have it think"
        )
    return said


def answer(completion: str, form: ChatFormat) -> str | None:
    """What follows a model's thoughts; None when they did not end."""
    if not form.answer_marker:
        return completion
    _, marker, rest = completion.rpartition(form.answer_marker)
    return rest if marker else None


def spoken(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], form: ChatFormat) -> str | None:
    """The answer in generated tokens, without special ones; None while a model that thinks has not begun it."""
    if not form.answer_marker:
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True))
    special = {id_: str(token) for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    marks = {text for text in special.values() if text in form.answer_marker}
    if not marks:
        return answer(str(tokenizer.decode(list(tokens), skip_special_tokens=True)), form)
    # Those that the marker is made of stay until it is found.
    kept = [token for token in tokens if token not in special or special[token] in marks]
    text = answer(str(tokenizer.decode(kept)), form)
    for mark in marks if text is not None else ():
        text = text.replace(mark, "")  # type: ignore[union-attr]
    return text
