"""How a model's configuration says its conversations are written: plain values, no model."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any


@dataclass
class ChatFormat:
    """One user turn as a prompt.

    `options`: what the chat template takes (Qwen3: enable_thinking). `date`: the day that templates
    print as today's, so that no result depends on the day. `answer_prefix`: text after the template,
    so that the next token is the first of the answer. `answer_marker`: text that ends the thoughts of
    a model that generates them; "" when it answers at once. `template`: which of several named
    templates; "": the only one, or the one named default. `system`: the system turn of prompts that have
    no other; "": what the template does by itself. `read_special`: special tokens that stand in
    an instruction are read as such, as in the paper; by default they are text like any other.
    """

    options: dict[str, Any] = field(default_factory=dict[str, Any])
    date: str = "2024-07-26"
    answer_prefix: str = ""
    answer_marker: str = ""
    template: str = ""
    system: str = ""
    read_special: bool = False

    def __post_init__(self):
        try:
            date.fromisoformat(self.date)
        except ValueError:
            raise ValueError(f"model.chat.date is {self.date!r}: write it as 2024-07-26") from None


PLAIN = ChatFormat()
