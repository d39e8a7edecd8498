"""One instruction, or one text, and where it comes from."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """An instruction; `id` is that of its words, so that equal instructions share it everywhere."""

    id: str
    instruction: str
    category: str
    source: str
    licence: str


@dataclass(frozen=True)
class Text:
    """A document, or the reference answer to `instruction`; `id` is that of its words."""

    id: str
    instruction: str
    text: str
    source: str
    licence: str


def normalised(instruction: str) -> str:
    """Lower case, words only: what two exact duplicates have in common."""
    return " ".join(re.findall(r"\w+", instruction.lower()))


def prompt_id(instruction: str) -> str:
    """First 12 hex digits of the sha256 of the normalised instruction."""
    return hashlib.sha256(normalised(instruction).encode()).hexdigest()[:12]


def text_id(instruction: str, text: str) -> str:
    """The same of a text, with the instruction that it answers, if any."""
    return prompt_id(f"{instruction} {text}")


def words_hash(prompts: Sequence[Prompt]) -> str:
    """sha256 of the instructions of a set, in order."""
    return hashlib.sha256("\n".join(prompt.instruction for prompt in prompts).encode()).hexdigest()
