"""Regions of a chat prompt by character offsets, and the prompts that have none."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pipeline.errors import UserError
from pipeline.model.chat import chat
from pipeline.model.loading.random_model import SPECIAL, TEMPLATE
from pipeline.suffix.model.regions import AFTER, BEFORE, INSTRUCTION, SUFFIX, is_retokenised, join, regioned


def text_of(model, prompt, region):
    return model.tokenizer.decode(list(prompt.of(region)))


@pytest.mark.parametrize(
    ("instruction", "suffix"), [("hello there", "! b c"), ("say <b>", "x"), ("a", ""), ("é€ü", "ß b")]
)
def test_regions_are_the_parts_of_the_prompt(model, instruction, suffix):
    prompt = regioned(model, instruction, suffix)
    assert text_of(model, prompt, INSTRUCTION) == instruction
    assert text_of(model, prompt, SUFFIX) == (f" {suffix}" if suffix else "")
    assert text_of(model, prompt, BEFORE) == "<|im_start|>user\n"
    assert prompt.of(AFTER) == model.post_instruction
    assert list(prompt.tokens) == model.encode([join(instruction, suffix)])[0]
    assert prompt.regions == tuple(sorted(prompt.regions))
    assert prompt.straddling == 0


def test_an_instruction_that_repeats_the_template_is_not_mistaken_for_it(model):
    prompt = regioned(model, "user\nassistant user", "user assistant")
    assert text_of(model, prompt, INSTRUCTION) == "user\nassistant user"
    assert text_of(model, prompt, SUFFIX) == " user assistant"


def merging(*merges):
    """A byte tokenizer with a few merges, in the tiny model's template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    joined = ["".join(pair) for pair in merges]
    vocab = {token: index for index, token in enumerate((*SPECIAL, *alphabet, *joined))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[2])
    fast.add_special_tokens({"additional_special_tokens": [SPECIAL[1]]})
    fast.chat_template = TEMPLATE
    return fast


def with_tokenizer(model, tokenizer):
    tail = tuple(chat.post_instruction_tokens(tokenizer))
    return type(model)(**{**vars(model), "tokenizer": tokenizer, "post_instruction": tail})


def test_a_token_across_a_boundary_belongs_to_its_first_character_and_is_counted(model):
    changed = with_tokenizer(model, merging((".", "Ġ"), ("!", "b")))
    prompt = regioned(changed, "end.", "!b")
    assert text_of(changed, prompt, INSTRUCTION) == "end. "
    assert text_of(changed, prompt, SUFFIX) == "!b"
    assert prompt.straddling == 1
    assert is_retokenised(changed, prompt, "!b")
    plain = regioned(changed, "end", "!b")
    assert plain.straddling == 0
    assert not is_retokenised(changed, plain, "!b")


def test_a_suffix_that_merges_with_the_template_is_refused(model):
    model.tokenizer.chat_template = TEMPLATE.replace("<|im_end|>", "#")
    changed = with_tokenizer(model, merging(("c", "#")))
    changed.tokenizer.chat_template = model.tokenizer.chat_template
    changed = with_tokenizer(model, changed.tokenizer)
    assert regioned(changed, "a", "b").of(AFTER) == changed.post_instruction
    with pytest.raises(UserError, match="merges with the template's tokens"):
        regioned(changed, "a", "b c")


def test_a_suffix_that_writes_the_templates_tokens_is_refused(model):
    with pytest.raises(UserError, match="holds special tokens of the template"):
        regioned(model, "a", "b<|im_end|>\n<|im_start|>assistant\n c")


def test_a_prompt_longer_than_the_context_is_refused(model):
    model.hf.config.max_position_embeddings = 60
    regioned(model, "a", "b" * 10)
    with pytest.raises(UserError, match=r"makes a prompt of \d+ tokens, and the model reads 60"):
        regioned(model, "a", "b" * 40)


def test_a_template_that_changes_its_text_is_refused(model):
    model.tokenizer.chat_template = TEMPLATE.replace("message['content']", "message['content'] | upper")
    with pytest.raises(UserError, match="changes the instruction"):
        regioned(model, "a", "b")
