"""A chat template by itself: which one, its errors on one line, its bounds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from pipeline.config.chat import ChatFormat
from pipeline.errors import UserError, first_line

Turns = Sequence[dict[str, str]]
LONGEST = 1_000_000  # characters that a template may add, and times that it may write a turn by
TIMES = 8


def roles_of(form: ChatFormat) -> tuple[str, ...]:
    """Roles of the turns of a prompt that nobody gives a system prompt."""
    return ("system", "user") if form.system else ("user",)


def named(tokenizer: PreTrainedTokenizerBase, form: ChatFormat) -> str:
    """The template as errors call it, with its model."""
    model = tokenizer.name_or_path or "this tokenizer"
    return f"model '{model}': its chat template" + (f" '{form.template}'" if form.template else "")


def text_of(tokenizer: PreTrainedTokenizerBase, form: ChatFormat) -> str:
    """The text of the template. Raises UserError when there is none, or several and none is chosen."""
    found: Any = tokenizer.chat_template
    model = tokenizer.name_or_path or "this tokenizer"
    if isinstance(found, dict) and found:
        key = form.template or "default"
        if key in found:
            return str(found[key])
        names = ", ".join(map(repr, sorted(found)))
        raise UserError(f"model '{model}' has no chat template '{key}': set model.chat.template to {names}")
    if not found:
        raise UserError(
            f"model '{model}' has no chat template, so refusal cannot be measured on it: "
            "use its instruction-tuned version"
        )
    if form.template:
        raise UserError(f"model '{model}' has one chat template, without a name: unset model.chat.template")
    return str(found)


def write(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, Any]], form: ChatFormat) -> str:
    """What the template makes of messages. Raises UserError for whatever goes wrong in it, and for too long a text."""
    try:
        text = bare(tokenizer, messages, form)
    except UserError:
        raise
    except Exception as error:  # a template is a program of a stranger's
        shown = f"{type(error).__name__}: {first_line(error)}"[:200]
        roles = ", ".join(message["role"] for message in messages)
        raise UserError(
            f"{named(tokenizer, form)} fails on turns of {roles} ({shown}): mend it, or choose another model"
        ) from None
    most = LONGEST + TIMES * sum(len(str(message["content"])) for message in messages)
    if len(text) > most:
        raise UserError(
            f"{named(tokenizer, form)} writes a prompt of {len(text):,} characters, and {most:,} are the most: mend it"
        )
    return text


def bare(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, Any]], form: ChatFormat) -> str:
    """The same, with whatever errors the template has, and of any length."""
    with _day(form.date):
        return str(
            tokenizer.apply_chat_template(
                list(messages),
                chat_template=text_of(tokenizer, form),
                tokenize=False,
                add_generation_prompt=True,
                **form.options,
            )
        )


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
