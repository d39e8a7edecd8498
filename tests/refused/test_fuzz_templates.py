"""Fuzzed chat templates and instructions: one line, or a prompt with the instruction in it. FUZZ_SEED, FUZZ_N."""

import os
import random
import re
from collections.abc import Callable

import pytest

from pipeline.config.chat import ChatFormat
from pipeline.errors import UserError
from pipeline.model.chat import chat, frames
from pipeline.model.loading.random_model import SPECIAL, TEMPLATE, byte_tokenizer

SEED = int(os.environ.get("FUZZ_SEED", "0"))
N = int(os.environ.get("FUZZ_N", "5000"))
# What real templates are made of.
TEMPLATES = (
    TEMPLATE,
    "{{ bos_token }}{% for m in messages %}[INST] {{ m.content | trim }} [/INST]{% endfor %}",
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}{% for m in messages %}{% if loop.index0 == 0 and system %}{{ system }}"
    "\n\n{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>model\n<think>\n",
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}assistant:",
    "{% macro turn(m) %}<|im_start|>{{ m.role | upper }}: {{ m.content }}<|im_end|>{% endmacro %}"
    "{% for m in messages %}{{ turn(m) }}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}",
)
WHOLE = (
    *(
        "{# #}",
        "{% if true %}{% endif %}",
        "{{ messages | length }}",
        "{{ messages[-1].content | length }}",
        "\n",
        "user",
    ),
    *(
        "{{ messages[0].content }}",
        "{{ messages[0].content[:9] }}",
        "{{ raise_exception('no\n\x1b') }}",
        "{{ 1 // 0 }}",
    ),
    *("{% if messages | length > 1 %}{{ nope.no }}{% endif %}", "{{ messages }}", "{{ strftime_now('%Y') }}", *SPECIAL),
    *("{% if messages[0].content is not string %}{{ {}.x.y }}{% endif %}", "{{ bos_token }}", "<think>", "\u2028"),
    *("{% if 'a' in messages[0].content %}a{% endif %}", "{% set messages = messages[:1] %}", "{{ 'x' * 3000 }}"),
)
FILTERS = (
    "",
    "",
    " | trim",
    " | e",
    " | lower",
    " | tojson",
    "[:5]",
    "[::-1]",
    ".strip()",
    " | string",
    " | safe",
    "[1:]",
)
PIECES = (
    *("{%", "%}", "{{", "}}", "{#", "#}", "|", ".", "[", "]", "(", ")", "'", '"', "\n", " ", "-", "+", "*", "0", "99"),
    *(
        "content",
        "message",
        "messages",
        "m",
        "role",
        "loop",
        "endfor",
        "endif",
        "else",
        "for",
        "if",
        "set",
        "in",
        "not",
    ),
    *(
        " | trim",
        " | e",
        " | lower",
        " | tojson",
        " | length",
        "[:5]",
        "[0]",
        "[::-1]",
        ".split()",
        " | first",
        " * 50",
    ),
    *(
        "{{ raise_exception('no\n\x1b') }}",
        "{{ 1 // 0 }}",
        "{% break %}",
        "{{ m }}",
        "{{ messages }}",
        "{% include 'a' %}",
    ),
    *("<think>", "</think>", "[THINK]", "\x00", "\u2028", "\ud7ff", "\ue100", "\U0001f600", "\u0130", *SPECIAL),
)
LETTERS = (
    *(
        "a",
        "B",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "<",
        ">",
        "&",
        '"',
        "'",
        "\\",
        "{{ x }}",
        "{% raw %}",
        "<think>",
        "</think>",
    ),
    *(
        "\x00",
        "\x1b[31m",
        "\u200b",
        "\u2028",
        "\ufeff",
        "\ufffd",
        "e\u0301",
        "\u0130",
        "\U0001f600",
        "\ue000",
        "\ue100",
    ),
    *("user", "assistant", "system", "[INST]", "[/INST]", "<|im_", "im_end|>", "\U000fff00", "\u3000", *SPECIAL),
)


def mutated(draw: random.Random) -> str:
    """One of the templates, changed: as a whole, at its seams, or by a few letters anywhere."""
    text = draw.choice(TEMPLATES)
    for _ in range(draw.randint(0, 3)):
        seams = [match.start() for match in re.finditer(r"(?=\{%|\{\{)", text)] or [0]
        at = draw.choice(seams)
        text = text[:at] + draw.choice(WHOLE) + text[at:]
    if draw.random() < 0.5:
        text = re.sub(r"(content'?\]?) ", lambda match: match[1] + draw.choice(FILTERS) + " ", text)
    for _ in range(draw.choice((0, 0, 0, 1, 3))):
        start = draw.randrange(len(text) + 1)
        end = start + draw.choice((0, 0, 1, 2, 8, 40))
        text = text[:start] + draw.choice((*PIECES, "")) + text[end:]
    return text


def instruction(draw: random.Random) -> str:
    """Letters, markup, special tokens; never white space alone, which no data set holds."""
    text = "".join(draw.choices(LETTERS, k=draw.choice((1, 2, 3, 8, 30))))
    return text if text.strip() else text + "x"


def fuzz(check: Callable[[random.Random], None], n: int, seed: int = SEED) -> int:
    """Rounds that ended in one line; a round that ends otherwise is named by its number."""
    refusals = 0
    for number in range(n):
        try:
            check(random.Random(f"{seed} {number}"))
        except UserError as error:
            refusals += 1
            if not str(error).isprintable():
                raise AssertionError(f"FUZZ_SEED={seed}, round {number}: {str(error)!r}") from error
        except Exception as error:
            raise AssertionError(f"FUZZ_SEED={seed}, round {number}: {error!r}") from error
    return refusals


def held(tokenizer: object, text: str, form: ChatFormat, system: str | None = None) -> None:
    """The instruction stands in the prompt, with no special token of its own."""
    [tokens] = chat.encode(tokenizer, [text], form, system=system)  # type: ignore[arg-type]
    prompt = tokenizer.decode(tokens)  # type: ignore[attr-defined]
    assert text.strip() in prompt
    assert not (system or "").strip() or str(system).strip() in prompt


@pytest.fixture
def in_process(monkeypatch):
    """A fork for each of thousands of templates takes minutes; what loops for ever is not among the pieces."""
    monkeypatch.setattr(frames, "unbounded", lambda call: "")


@pytest.mark.usefixtures("in_process")
def test_a_fuzzed_template_is_refused_on_one_line_or_keeps_the_instruction():
    print(f"FUZZ_SEED={SEED} FUZZ_N={N}")
    tokenizer = byte_tokenizer()
    tokenizer.name_or_path = "tiny"

    def check(draw: random.Random) -> None:
        tokenizer.chat_template = mutated(draw)
        held(tokenizer, instruction(draw), ChatFormat())

    refusals = fuzz(check, N)
    print(f"{refusals} of {N} templates refused")
    assert 0.1 * N < refusals < 0.9 * N, "or the templates say nothing"


@pytest.mark.usefixtures("in_process")
def test_a_fuzzed_instruction_stands_in_its_prompt():
    print(f"FUZZ_SEED={SEED} FUZZ_N={N}")
    tokenizers = [byte_tokenizer() for _ in TEMPLATES]
    for tokenizer, text in zip(tokenizers, TEMPLATES, strict=True):
        tokenizer.chat_template = text
    expected = [
        [token for token in chat.encode(tokenizer, ["x"])[0] if token < len(SPECIAL)] for tokenizer in tokenizers
    ]

    def check(draw: random.Random) -> None:
        number = draw.randrange(len(tokenizers))
        tokenizer, text = tokenizers[number], instruction(draw)
        system = instruction(draw) if number in (0, 2, 3) and draw.random() < 0.3 else None
        held(tokenizer, text, ChatFormat(), system)
        if system is None:
            tokens = chat.encode(tokenizer, [text])[0]
            assert [token for token in tokens if token < len(SPECIAL)] == expected[number], text

    refusals = fuzz(check, N)
    print(f"{refusals} of {N} instructions refused")
    assert refusals < 0.25 * N, "those with private characters beside a special token"


def test_a_planted_crash_is_found():
    def check(draw: random.Random) -> None:
        if draw.random() < 0.01:
            raise KeyError("planted")

    with pytest.raises(AssertionError, match=r"FUZZ_SEED=3, round \d+: KeyError\('planted'\)"):
        fuzz(check, 1000, seed=3)


@pytest.mark.usefixtures("in_process")
def test_a_planted_cut_is_found(monkeypatch):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content[:4] }}<|im_end|>"
    monkeypatch.setattr(frames, "placed", lambda *_: ())
    with pytest.raises(AssertionError, match="round"):
        fuzz(lambda draw: held(tokenizer, instruction(draw), ChatFormat()), 100)
