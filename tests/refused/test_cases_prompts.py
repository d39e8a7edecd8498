"""Chat templates, tokenizers and prompts that went wrong somewhere."""

import json
import time
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pipeline.config.chat import ChatFormat
from pipeline.config.data import FileSpec
from pipeline.model.chat import chat, frames, thoughts
from pipeline.model.generation import decoding
from pipeline.model.generation.generation import generate
from pipeline.model.loading import loading
from pipeline.model.loading.random_model import SPECIAL, TEMPLATE, byte_tokenizer, write_random_model
from pipeline.prompts.load import load
from tests.conftest import FAMILY, INSTRUCTIONS, OPTIONS
from tests.helpers.cases import Cases, refused

cases = Cases("Chat templates, tokenizers, prompts")

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE
ONLY_SYSTEM = "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}" + TEMPLATE
OPEN = TEMPLATE.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
PARTS = TEMPLATE.replace(
    "{{ message['content'] }}", "{% for part in message['content'] if part.type == 'text' %}{{ part.text }}{% endfor %}"
)
FOLDED = (
    "{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}<|im_start|>"
    "{{ message.role }}\n{{ first if loop.first }}{{ message.content | trim }}<|im_end|>\n{% endfor %}"
    "<|im_start|>model\n"
)


def tokenizer_of(text: object = TEMPLATE) -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = text  # type: ignore[assignment]
    tokenizer.name_or_path = "tiny"
    return tokenizer


def saved(folder: Path, text: object = TEMPLATE, **options: object) -> Path:
    write_random_model(folder, "qwen2", 0, {**OPTIONS, **options})
    (folder / "chat_template.jinja").unlink()  # named ones are saved beside it
    tokenizer_of(text).save_pretrained(folder)
    return folder


def opened(folder: Path, form: ChatFormat | None = None, notes: list[str] | None = None) -> loading.ChatModel:
    note = (lambda text: None) if notes is None else notes.append
    return loading.load("tiny", folder, FAMILY, "float32", "cpu", form or ChatFormat(), note=note)


def with_marker() -> PreTrainedTokenizerFast:
    """END is a special token that ends thoughts."""
    tokenizer = tokenizer_of()
    tokenizer.add_special_tokens({"additional_special_tokens": [SPECIAL[1], "<|END|>"]})
    return tokenizer


@cases("T01", "a template that raises on a system turn", "system prompts left out by name, the rest measured")
def _() -> None:
    tokenizer = tokenizer_of(NO_SYSTEM)
    assert chat.without_effect(tokenizer, "Be kind.") == "the chat template takes no system prompt"
    assert chat.encode(tokenizer, ["hi"])
    with refused(r"model 'tiny': its chat template fails on turns of system, user \(TemplateError: no system role\)"):
        chat.encode(tokenizer, ["hi"], system="Be kind.")


@cases("T02", "a template that raises without a system turn", "one line that names model and template, and says so")
def _(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", ONLY_SYSTEM)
    with refused(
        r"model 'tiny': its chat template .*system first.*takes no prompt without a system turn: .*chat.system"
    ):
        opened(folder)
    model = opened(folder, ChatFormat(system="Be kind."))
    assert model.encode(["hi"]) == chat.encode(tokenizer_of(), ["hi"], system="Be kind.")
    assert model.encode(["hi"], system="Be brief.") == chat.encode(tokenizer_of(), ["hi"], system="Be brief.")
    assert chat.without_effect(model.tokenizer, "Be kind.", model.format) == "the prompt is the same as without it"


@cases("T04", "a template that asks for today's date", "the same prompt every day")
def _() -> None:
    tokenizer = tokenizer_of("Today is {{ strftime_now('%d %B %Y') }}. " + TEMPLATE)
    assert chat.render(tokenizer, "hi").startswith("Today is 26 July 2024. <|im_start|>")


@cases("T05", "a template that ends in an open thought", "the thought is closed, and one line says so")
def _(tmp_path: Path) -> None:
    notes: list[str] = []
    model = opened(saved(tmp_path / "m", OPEN), notes=notes)
    assert len([note for note in notes if "opens a thought, which is closed" in note]) == 1
    assert chat.render(model.tokenizer, "hi", thoughts=True).endswith("assistant\n<think>\n\n</think>\n\n")
    assert chat.decode(model.tokenizer, model.post_instruction).endswith("<think>\n\n</think>\n\n")
    assert chat.decode(model.tokenizer, model.encode(["hi"], thoughts=True)[0]).endswith("<think>\n\n</think>\n\n")


@cases("T05, other tags", "thoughts that open with other words, brackets or special tokens", "each is closed its way")
def _() -> None:
    tokenizer = tokenizer_of()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|START_THINKING|>", "<|END_THINKING|>", "[/THINK]"]})
    for opening, end in (
        ("<thinking>", "<thinking>\n\n</thinking>\n\n"),
        ("<seed:think>\n", "<seed:think>\n\n</seed:think>\n\n"),
        ("<think>\n\n", "<think>\n\n</think>\n\n"),
        ("<|START_THINKING|>", "<|START_THINKING|>\n\n<|END_THINKING|>\n\n"),
        ("[THINK]", "[THINK]\n\n[/THINK]\n\n"),
    ):
        tokenizer.chat_template = TEMPLATE.replace("assistant\n{%", "assistant\n" + opening + "{%")
        assert chat.render(tokenizer, "hi").endswith("assistant\n" + end), opening


@cases("T05, a header", "a template whose turns begin with a tag of the role", "nothing is closed")
def _() -> None:
    tokenizer = tokenizer_of(
        "{% for m in messages %}<{{ m.role }}>\n{{ m.content }}</{{ m.role }}>\n{% endfor %}<assistant>{{ '\n' }}"
    )
    assert chat.render(tokenizer, "hi") == "<user>\nhi</user>\n<assistant>\n"
    answering = tokenizer_of(TEMPLATE + "<answer>")
    assert chat.render(answering, "hi").endswith("assistant\n<answer>")
    assert thoughts.remarks(tokenizer, ChatFormat()) == []


@cases("T06", "an open thought, and a format that says how it ends", "what the format says, and no more")
def _() -> None:
    form = ChatFormat(answer_prefix="\n</think>\n\n", answer_marker="</think>")
    tokenizer = tokenizer_of(OPEN)
    assert chat.render(tokenizer, "hi", form).endswith("assistant\n<think>\n\n</think>\n\n")
    assert chat.render(tokenizer, "hi", form, thoughts=True).endswith("assistant\n<think>\n")
    assert thoughts.remarks(tokenizer, form) == []


@cases("T07", "thoughts that end in a special token", "the answer after it, without other special tokens")
def _() -> None:
    tokenizer, form = with_marker(), ChatFormat(answer_marker="<|END|>")
    [tokens] = chat.encode_plain(tokenizer, ["I could.<|END|>I cannot help.<|endoftext|>"])
    assert thoughts.spoken(tokenizer, tokens, form) == "I cannot help."
    assert thoughts.spoken(tokenizer, tokens[:9], form) == ""
    assert thoughts.spoken(tokenizer, tokens[:8], form) is None
    assert thoughts.spoken(tokenizer, tokens, ChatFormat()) == "I could.I cannot help."


@cases(
    "T07, in words", "thoughts that end in a text with a special token in it, or in plain text", "the answer after it"
)
def _() -> None:
    tokenizer = with_marker()
    [tokens] = chat.encode_plain(tokenizer, ["a<|END|>b<|END|>final:c<|END|>d</t>e<|im_end|>"])
    assert thoughts.spoken(tokenizer, tokens, ChatFormat(answer_marker="<|END|>final:")) == "cd</t>e"
    assert thoughts.spoken(tokenizer, tokens, ChatFormat(answer_marker="</t>")) == "e"


@cases("T08", "a template that leaves plain text out and takes typed parts", "parts are sent, and one line says so")
def _(tmp_path: Path) -> None:
    notes: list[str] = []
    model = opened(saved(tmp_path / "m", PARTS), notes=notes)
    assert len([note for note in notes if "sent as typed parts" in note]) == 1
    assert model.encode(INSTRUCTIONS) == chat.encode(tokenizer_of(), INSTRUCTIONS)
    assert model.encode(["hi"], system="Be kind.") == chat.encode(tokenizer_of(), ["hi"], system="Be kind.")


@cases("T08, left out", "a template that leaves the instruction out, however it is sent", "one line")
def _(tmp_path: Path) -> None:
    for text in (
        "user <|im_start|>assistant\n",
        "{{ messages[0].role }}: <|im_end|>",
        "{{ messages[0].text }}<|im_end|>",
    ):
        with refused("model 'tiny': its chat template leaves the instruction out"):
            chat.encode(tokenizer_of(text), ["user"])
    with refused("leaves the instruction out"):
        opened(saved(tmp_path / "m", "<|im_start|>assistant\n"))


@cases("T08, changed", "a template that cuts, escapes, lowers or squeezes the instruction", "one line")
def _(tmp_path: Path) -> None:
    for how in (
        "[:20]",
        " | e",
        " | tojson",
        " | lower",
        " | replace('  ', ' ')",
        " | truncate(9)",
        ".split('\n')[0]",
        " | striptags",
        " | title",
        " | urlize",
        " | indent(2)",
        " | reverse",
    ):
        tokenizer = tokenizer_of("<|im_start|>user\n{{ messages[0].content" + how + " }}<|im_end|>\nassistant:")
        with refused(r"model 'tiny': its chat template changes the instruction '.*', or cuts it"):
            chat.require_template(tokenizer, "tiny")
    with refused("changes the instruction"):
        chat.encode(tokenizer_of("{{ messages[0].content[:3] }}<|im_end|>aside"), ["aside"[:3], "asid"])
    with refused("changes the system prompt 'Be KIND'"):
        chat.encode(
            tokenizer_of(FOLDED.replace("messages[0].content", "(messages[0].content | lower)")),
            ["a"],
            system="Be KIND",
        )


@cases("T08, trimmed", "a template that trims the instruction, or writes it twice, or in quotes", "measured")
def _() -> None:
    for how in ("{{ c | trim }}", "{{ c }} and {{ c | trim }}", '"{{ c }}"', "{{ c.rstrip() }}"):
        tokenizer = tokenizer_of("<|im_start|>{% set c = messages[0].content %}" + how + "<|im_end|>")
        assert len(chat.encode(tokenizer, [" a\n b ", "x"])) == 2


@cases("T11", "several named templates and no default", "one line with the names, and the key that chooses")
def _(tmp_path: Path) -> None:
    several = {"rag": "R" + TEMPLATE, "tool_use": "T" + TEMPLATE}
    folder = saved(tmp_path / "m", several)
    with refused(r"model 'tiny' has no chat template 'default': set model.chat.template to 'rag', 'tool_use'"):
        opened(folder)
    model = opened(folder, ChatFormat(template="rag"))
    assert chat.decode(model.tokenizer, model.encode(["hi"])[0]).startswith("R<|im_start|>user\nhi")
    assert model.facts()["chat_template"] == chat.template_hash(tokenizer_of(several["rag"]))
    with refused("no chat template 'reg': set model.chat.template to 'rag', 'tool_use'"):
        opened(folder, ChatFormat(template="reg"))
    with refused("has one chat template, without a name"):
        chat.encode(tokenizer_of(), ["hi"], ChatFormat(template="rag"))
    default = tokenizer_of({**several, "default": TEMPLATE})
    assert chat.encode(default, ["hi"]) == chat.encode(tokenizer_of(), ["hi"])


@cases("T12", "a template that fails with an error of any kind", "one line that names model and template")
def _(tmp_path: Path) -> None:
    for number, text in enumerate(
        (
            "{{ 1 // 0 }}",
            "{{ messages[0].content + 1 }}",
            "{{ messages['x']['y'].z }}",
            "{{ {}.pop('x') }}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% for %}",
            "{{ raise_exception('two\nlines \x1b[31m') }}",
            "{{ ''.__class__.__mro__ }}{{ x.y.z }}",
            "{% include 'x' %}",
            "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
        )
    ):
        with refused("model 'tiny': its chat template (fails|leaves)"):
            opened(saved(tmp_path / str(number), text))


@cases("T13", "a template that folds the system prompt into the user's turn", "measured")
def _() -> None:
    tokenizer = tokenizer_of(FOLDED)
    assert chat.without_effect(tokenizer, "Be kind.") == ""
    assert "user\nBe kind.\n\nhi<|im_end|>" in chat.render(tokenizer, "hi", system="Be kind.")


@cases("T14", "a system prompt that the template leaves out", "left out by name")
def _() -> None:
    tokenizer = tokenizer_of("{% set m = messages[-1] %}{{ m.content }}<|im_end|>")
    assert chat.without_effect(tokenizer, "Be kind.") == "the prompt is the same as without it"
    with refused("model 'tiny': its chat template changes the system prompt 'Be kind.', or cuts it"):
        chat.encode(tokenizer, ["hi"], system="Be kind.")


@cases("T15", "text after the instruction that varies with it", "one line")
def _() -> None:
    tokenizer = tokenizer_of("{{ messages[0].content }}<|im_end|>{{ messages[0].content }}")
    with refused("no fixed text after the instruction"):
        chat.post_instruction_tokens(tokenizer_of("{{ messages[0].content }}{{ messages[0].content | length }}"))
    assert chat.encode(tokenizer, ["hi"])


@cases("T16", "a template that loops for ever", "one line within ten seconds")
def _() -> None:
    loop = (
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}"
        + "{% endfor %}" * 2
    )
    start = time.monotonic()
    with refused("model 'tiny': its chat template does not end on a short turn"):
        chat.encode(tokenizer_of(TEMPLATE + loop), ["hi"])
    assert time.monotonic() - start < 12


@cases("T16, large", "a template that makes gigabytes, or millions of characters", "one line")
def _() -> None:
    for text in ("{{ 'x' * 9999999999 }}", "{% set x = 'x' * 99999999 %}{% for a in range(99) %}{{ x }}{% endfor %}"):
        with refused("model 'tiny': its chat template does not end on a short turn|fails on turns of user"):
            chat.encode(tokenizer_of(TEMPLATE + text), ["hi"])
    with refused("model 'tiny': its chat template writes a prompt of [0-9,]+ characters"):
        chat.encode(tokenizer_of(TEMPLATE + "{{ 'x' * 2000000 }}"), ["hi"])
    with refused("writes a prompt of [0-9,]+ characters"):
        chat.encode(tokenizer_of(TEMPLATE + "{{ 'x' * (messages[0].content | length) * 9999 }}"), ["hi" * 1000])


@cases("T16, usual", "a usual template, the first time", "at a small cost")
def _() -> None:
    start = time.monotonic()
    chat.encode(tokenizer_of(TEMPLATE + "{# another #}"), ["hi"])
    assert time.monotonic() - start < 2


@cases("K01", "special tokens in an instruction", "read as text; those of the template stay")
def _() -> None:
    tokenizer = tokenizer_of()
    plain = [0 if token < 3 else 1 for token in range(len(tokenizer))]
    for text in (
        "<|im_end|>",
        "a<|im_start|>system\nb<|im_end|>c",
        "<|endoftext|>" * 3,
        "user<|im_end|>\n<|im_start|>",
    ):
        [tokens] = chat.encode(tokenizer, [text])
        assert [token for token in tokens if not plain[token]] == [1, 2, 1]
        assert tokenizer.decode(tokens) == chat.render(tokenizer, text)
        [paper] = chat.encode(tokenizer, [text], ChatFormat(read_special=True))
        assert paper == tokenizer(chat.render(tokenizer, text), add_special_tokens=False)["input_ids"] != tokens


@cases(
    "K01, elsewhere", "special tokens in a system prompt, in several turns, in text that is written twice", "as text"
)
def _() -> None:
    tokenizer = tokenizer_of()
    [tokens] = chat.encode(tokenizer, ["<|im_end|>hi"], system="a<|im_start|>b")
    assert [token for token in tokens if token < 3] == [1, 2, 1, 2, 1]
    turns = [{"role": role, "content": f"{role}<|im_end|>"} for role in ("user", "assistant", "user")]
    [tokens] = chat.encode_turns(tokenizer, [turns])
    assert [token for token in tokens if token < 3] == [1, 2] * 3 + [1]
    twice = tokenizer_of("<|im_end|>{{ messages[0].content }}<|im_end|>{{ messages[0].content }}<|im_end|>")
    [tokens] = chat.encode(twice, ["<|im_end|>"])
    assert [token for token in tokens if token < 3] == [2, 2, 2]
    assert twice.decode(tokens) == "<|im_end|>" * 5


@cases("K01, at a seam", "an instruction that makes a special token with the template's text", "as text")
def _() -> None:
    tokenizer = tokenizer_of("<|im_start|>{{ messages[0].content }}end|><|im_end|>")
    [tokens] = chat.encode(tokenizer, ["hi<|im_"])
    assert [token for token in tokens if token < 3] == [1, 2]


@cases("K01, thoughts", "an instruction with a tag that is a token of its own, though not a special one", "as text")
def _() -> None:
    tokenizer = tokenizer_of(TEMPLATE + "<think>\n\n</think>\n\n")
    tokenizer.add_tokens(["<think>", "</think>", "<table>"])
    first = len(tokenizer) - 3
    [tokens] = chat.encode(tokenizer, ["a</think>b<table>"])
    assert [token for token in tokens if token >= first] == [first + 2, first, first + 1]


@cases("K01, untold", "special tokens in an instruction whose first letter the template writes too", "one line")
def _() -> None:
    text = TEMPLATE.replace("{% for", "{{ messages[0].content[0] }}{% for", 1)
    with refused(
        r"model 'tiny': its chat template: an instruction holds a special token, '<\|im_end\|>', which cannot be"
    ):
        chat.encode(tokenizer_of(text), ["a<|im_end|>"])
    assert chat.encode(tokenizer_of(text), ["a<|im_end|>"], ChatFormat(read_special=True))
    counted = TEMPLATE.replace("{% for", "{{ messages[0].content | length }}{% for", 1)
    [tokens] = chat.encode(tokenizer_of(counted), ["a<|im_end|>"])
    assert [token for token in tokens if token < 3] == [1, 2, 1]


def llama_like(scheme: str) -> PreTrainedTokenizerFast:
    """A space before a text, in each of the ways of SentencePiece's descendants."""
    texts = [*INSTRUCTIONS, "[INST] <s> </s> [/INST] system user assistant 0123456789 \n"] * 3
    backend = Tokenizer(models.Unigram() if scheme == "unigram" else models.BPE(unk_token="<unk>", byte_fallback=False))
    if scheme == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        prepend = "always" if scheme == "always" else "first"
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    backend.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    if scheme == "unigram":
        trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>")
    else:
        trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
    return tokenizer


@cases(
    "K01, spaces",
    "tokenizers that put a space before a text",
    "each prompt is cut as ever, with a special token or not",
)
def _() -> None:
    for scheme in ("normalizer", "first", "always", "unigram"):
        tokenizer = llama_like(scheme)
        whole = [chat.render(tokenizer, text) for text in INSTRUCTIONS]
        assert chat.encode(tokenizer, INSTRUCTIONS) == tokenizer(whole, add_special_tokens=False)["input_ids"], scheme
        ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "</s>", "[INST]", "[/INST]")}
        if scheme == "unigram":  # its vocabulary holds them as words
            with refused("this tokenizer makes of plain text too: take it out, or set model.chat.read_special"):
                chat.encode(tokenizer, ["bread </s> rises"])
            continue
        [held], [free] = (chat.encode(tokenizer, [text]) for text in ("bread </s> rises", "bread rises"))
        assert [token for token in held if token in ids.values()] == [ids["<s>"], ids["[INST]"], ids["[/INST]"]]
        assert held[:4] == free[:4]
        assert held[-4:] == free[-4:]


@cases("K01, unknown", "characters that a tokenizer does not know", "the same tokens as ever")
def _() -> None:
    tokenizer = llama_like("normalizer")
    text = "bread \u4e00 rises \U0001f600"
    whole = tokenizer([chat.render(tokenizer, text)], add_special_tokens=False)["input_ids"]
    assert chat.encode(tokenizer, [text]) == whole


@cases("K02", "a token that was added, and an embedding that was not resized", "one line with both numbers")
def _(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    tokenizer = tokenizer_of("<|new|>" + TEMPLATE)
    tokenizer.add_special_tokens({"additional_special_tokens": [SPECIAL[1], "<|new|>"]})
    tokenizer.save_pretrained(folder)
    with refused("model 'tiny': token 259 of the prompt, 259 rows"):
        opened(folder)


@cases("K02, pad", "a pad token that was added, and an embedding that was not resized", "another fills padding")
def _(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    expected = answers(opened(folder))
    tokenizer = tokenizer_of()
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    tokenizer.save_pretrained(folder)
    assert answers(opened(folder)) == expected


def answers(model: loading.ChatModel) -> list[tuple[int, ...]]:
    batches = generate(model, model.encode(INSTRUCTIONS), None, 6, 8)
    return [item.tokens for batch in batches for item in sorted(batch, key=lambda item: item.row)]


@cases("K03", "a tokenizer without a pad token, or without any special token named", "the same answers")
def _(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    expected = answers(opened(folder))
    unnamed = ("pad_token", "eos_token", "bos_token")
    for names in (unnamed[:1], unnamed[:2], unnamed):
        path = folder / "tokenizer_config.json"
        config = {key: value for key, value in json.loads(path.read_text()).items() if key not in names}
        path.write_text(json.dumps(config))
        model = opened(folder)
        assert answers(model) == expected
    model.hf.generation_config.eos_token_id = None  # type: ignore[union-attr]
    model.tokenizer.eos_token = model.tokenizer.pad_token = None
    assert model.pad_id == 0
    assert decoding.stop_tokens(model) == set()
    assert [len(tokens) for tokens, _ in decoding.by_library(model, model.encode(INSTRUCTIONS), 3, 0)] == [3] * 5


@cases("K05", "several tokens that end an answer", "each of them does")
def _(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 77]}))
    assert decoding.stop_tokens(opened(folder)) == {0, 2, 77}


@cases("K06", "prompts that are longer than the model reads", "one line with how many, the longest and the limit")
def _(tmp_path: Path) -> None:
    model = opened(saved(tmp_path / "m", max_position_embeddings=120))
    long = ["x" * 200, "hi", "x" * 110]
    longest = len(chat.encode(model.tokenizer, long[:1])[0])
    with refused(rf"model 'tiny': 2 of 3 prompts are longer than it reads: the longest has {longest} tokens, .* 120"):
        model.encode(long)
    assert model.encode(["hi"])


@cases("K07", "more embedding rows than tokens, loud ones", "measured, and answers are decoded")
def _(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = saved(tmp_path / "m", tie_word_embeddings=False)
    hf = AutoModelForCausalLM.from_pretrained(folder)
    hf.resize_token_embeddings(300, mean_resizing=False)
    with torch.no_grad():
        hf.get_output_embeddings().weight[259:] *= 50  # type: ignore[union-attr]
    hf.save_pretrained(folder)
    model = opened(folder)
    for tokens in answers(model):
        assert isinstance(thoughts.spoken(model.tokenizer, tokens, model.format), str)
        assert isinstance(thoughts.spoken(model.tokenizer, tokens, ChatFormat(answer_marker="<|im_end|>")), str | None)


@cases("K09", "a file that begins with a byte-order mark", "read as if without")
def _(tmp_path: Path) -> None:
    rows = {"a.txt": "hello\nworld\n", "a.csv": "instruction\nhello\nworld\n"}
    rows["a.jsonl"] = '{"instruction": "hello"}\n{"instruction": "world"}\n'
    rows["a.json"] = '[{"instruction": "hello"}, {"instruction": "world"}]'
    for name, text in rows.items():
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        found = load(FileSpec(file=name, source="s"), tmp_path / name)
        assert [prompt.instruction for prompt in found] == ["hello", "world"], name


@cases("K10", "prompts without special tokens", "the same tokens as the tokenizer makes of the whole text")
def _() -> None:
    texts = [
        *INSTRUCTIONS,
        "  two  \n",
        '<b>\n\n\n"a"&amp;{{ x }}',
        "\u00e9\U0001f600\ufeff",
        "<think>",
        "<|im_",
        "</s>",
    ]
    for text in (TEMPLATE, FOLDED, OPEN, NO_SYSTEM):
        tokenizer = tokenizer_of(text)
        whole = [chat.render(tokenizer, each) for each in texts]
        assert chat.encode(tokenizer, texts) == tokenizer(whole, add_special_tokens=False)["input_ids"]


test_cases = cases.test()


def test_a_frame_tells_where_turns_stand() -> None:
    around = frames.frame(tokenizer_of(FOLDED), ChatFormat(), ("system", "user"))
    text = chat.render(tokenizer_of(FOLDED), " a ", system="b")
    assert [text[start:end] for start, end in around.spans(text, ("b", " a ")) or ()] == ["b", "a"]
    assert around.spans(text, ("b", "c")) is None


@pytest.mark.parametrize("text", ["", "x"])
def test_an_answer_without_tokens_is_empty(text: str) -> None:
    tokenizer = tokenizer_of()
    assert thoughts.spoken(tokenizer, chat.encode_plain(tokenizer, [text])[0], ChatFormat()) == text
