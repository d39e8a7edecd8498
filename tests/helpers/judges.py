"""What judges are asked, and a tokenizer as theirs are, for random tiny models of their architectures."""

from tokenizers.processors import TemplateProcessing

from pipeline.model.loading import random_model
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "data" / "judge_prompts"
PROMPT, COMPLETION = "Describe rain {0}", "It falls.\nTwice {a}"
RUBBISH = ("", " \n ", "maybe", "I cannot judge this.", "yes and no", "unsafe? safe?", "S1", "\x00", "Ja")


def golden(name):
    """The file, less the newline that ends it."""
    return (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")


BOS = random_model.SPECIAL[0]
BYTES = random_model.byte_tokenizer  # before `folders` puts judge_tokenizer in its place
TURNS = f"User: {PROMPT}\n\nAgent: {COMPLETION}\n\n"
LOOP = (
    "{% for message in messages %}{{ 'User' if message['role'] == 'user' else 'Agent' }}: {{ CONTENT }}\n\n{% endfor %}"
)
# What Llama Guard 2's tokenizer has, for two turns; Llama Guard 4's reads content in parts.
TEMPLATE = golden("llama_guard_2").replace(TURNS, LOOP.replace("CONTENT", "message['content'] | trim"))
PARTS = "message['content'] | selectattr('type', 'equalto', 'text') | map(attribute='text') | join | trim"
TEMPLATE_OF_PARTS = golden("llama_guard_2").replace(TURNS, LOOP.replace("CONTENT", PARTS))


def judge_tokenizer(template: str | None = TEMPLATE):
    """Bytes, `Yes` and `No`; a BOS before every text, as the judges' tokenizers have it."""
    tokenizer = BYTES()
    tokenizer.add_tokens(["Yes", "No"])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.bos_token_id)]
    )
    tokenizer.chat_template = template
    return tokenizer
