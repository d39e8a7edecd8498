"""Prompts as the model's configuration says: the next token is the first of the answer, whatever the day."""

import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from pipeline.config.chat import ChatFormat
from pipeline.model.chat import chat, thoughts
from pipeline.model.loading import loading
from tests.conftest import FAMILY

# The parts that matter of Qwen3's template, of Llama-3.2's and of gpt-oss's.
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
DATED = (
    "{{ strftime_now('%d %b %Y') }}\n{% for message in messages %}{{ message.content }}{% endfor %}<|im_end|>answer:"
)
HARMONY = "<|im_start|>user{{ messages[0].content }}<|im_end|><|im_start|>assistant"
OPEN = ChatFormat(options={"enable_thinking": False})
THOUGHTS = ChatFormat(
    options={"enable_thinking": True}, answer_prefix="<think>\n\n</think>\n\n", answer_marker="</think>"
)


@pytest.fixture
def tokenizer(model):
    model.tokenizer.chat_template = THINKING
    return model.tokenizer


def test_without_thinking_the_prompt_ends_where_the_answer_begins(tokenizer):
    assert chat.render(tokenizer, "hi", OPEN).endswith("assistant\n<think>\n\n</think>\n\n")
    tail = chat.post_instruction_tokens(tokenizer, OPEN)
    assert tokenizer.decode(tail) == "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_a_thinking_model_is_measured_on_the_answer_and_generates_its_thoughts(tokenizer):
    assert chat.render(tokenizer, "hi", THOUGHTS) == chat.render(tokenizer, "hi", OPEN)
    assert chat.render(tokenizer, "hi", THOUGHTS, thoughts=True).endswith("assistant\n")
    assert chat.render(tokenizer, "hi", ChatFormat()).endswith("assistant\n")


def test_the_answer_is_what_follows_the_thoughts():
    assert thoughts.answer("<think>no</think>\n\nI cannot", THOUGHTS) == "\n\nI cannot"
    assert thoughts.answer("<think>I cannot do this because", THOUGHTS) is None
    assert thoughts.answer("I cannot", OPEN) == "I cannot"


def test_the_channel_of_the_answer_is_opened(tokenizer):
    tokenizer.chat_template = HARMONY
    form = ChatFormat(answer_prefix="<|channel|>final<|message|>")
    assert (
        chat.render(tokenizer, "hi", form) == "<|im_start|>userhi<|im_end|><|im_start|>assistant" + form.answer_prefix
    )


def test_no_prompt_depends_on_the_day(tokenizer):
    tokenizer.chat_template = DATED
    assert chat.render(tokenizer, "hi").startswith("26 Jul 2024\nhi")
    assert chat.render(tokenizer, "hi", ChatFormat(date="2023-01-02")).startswith("02 Jan 2023\n")
    with pytest.raises(ValueError, match="write it as 2024-07-26"):
        ChatFormat(date="yesterday")


TURNS = "{% for message in messages %}[{{ message.role }}]{{ message.content }}[/]{% endfor %}[assistant]"
OF_ITS_OWN = "{% if messages[0].role != 'system' %}[system]You are kind.[/]{% endif %}" + TURNS
FOLDED = (
    "{% if messages[0].role == 'system' %}[user]{{ messages[0].content }}\n\n{{ messages[1].content }}"
    "{% else %}[user]{{ messages[0].content }}{% endif %}[/][assistant]"
)
NONE_TAKEN = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURNS


@pytest.mark.parametrize(
    ("template", "system"),
    [(OF_ITS_OWN, "You are kind."), (TURNS, ""), (FOLDED, ""), (NONE_TAKEN, ""), (THINKING, ""), (DATED, "")],
)
def test_the_system_prompt_that_a_template_writes_by_itself_is_found(tokenizer, template, system):
    tokenizer.chat_template = template
    assert chat.own_system(tokenizer) == system
    if system:
        assert chat.render(tokenizer, "hi") == chat.render(tokenizer, "hi", system=system)
        assert chat.own_system(tokenizer, ChatFormat(system="Be brief.")) == "Be brief."


def test_a_tokenizer_that_puts_a_space_before_every_text_keeps_its_positions():
    """As Llama 2's: " [/INST]" by itself begins with one more space than at the end of a prompt."""
    letters = {letter: index for index, letter in enumerate("\u2581[]/<>abcdefghijklmnopqrstuvwxyzINST")}
    backend = Tokenizer(models.BPE(vocab={**letters, "<unk>": 99}, merges=[], unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    tokenizer.chat_template = "[INST] {{ messages[0].content }} [/INST]"
    found = chat.post_instruction_tokens(tokenizer)
    assert tokenizer.convert_ids_to_tokens(found) == ["\u2581", *"[/INST]"]
    assert tokenizer(" [/INST]")["input_ids"] != found
    assert chat.encode(tokenizer, ["bake bread"])[0][-len(found) :] == found


def test_a_loaded_model_encodes_in_its_format(tiny_folder):
    form = ChatFormat(answer_prefix="Sure")
    model = loading.load("m", tiny_folder, FAMILY, "float32", "cpu", form)
    tokens = model.encode(["hi"])[0]
    assert chat.decode(model.tokenizer, tokens).endswith("assistant\nSure")
    assert tuple(tokens[-len(model.post_instruction) :]) == model.post_instruction
