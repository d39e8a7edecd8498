"""Llama models whose refusal is built in by hand, so that what an analysis of them should find is known.

Every feature of the residual stream is a direction of its own, drawn at random and orthogonal to all others:

- the embedding marks words: every word by a large constant, so that RMSNorm divides all tokens by nearly the same;
  harmful words by a key and by the cause that they stand for; words of a topic; the blocking word; words of answers by
  the word that follows them;
- block 0 takes the topics of all words to every later token, evenly: distractors, which the unembedding reads a little;
- block 1 has one head that looks at the harmful word, and writes its cause to every later token: the planted
  directions. The blocking word has a larger key and no cause;
- the MLP of block `decides` compares the stream with the causes, erases them, and writes the decision to refuse or not;
- the unembedding reads the decision after the template, and the following word inside of an answer.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LAYERS, WIDTH, HEADS, HEAD, HIDDEN = 5, 64, 4, 16, 32
WRITES = 1  # the block that writes the causes
DETECTS = 2  # the head that does
SLOW = HEAD // 2 - 1  # a coordinate of a head that positions hardly turn
CONSTANT, MARK, CAUSE, DECOY, DECISION = 12.0, 4.0, 4.0, 6.0, 4.0  # lengths along their directions
BLOCKING = "zebra"
HARMFUL = "poison burgle forge smuggle hack sabotage steal bomb rob kidnap stalk extort"
HARMLESS = "bake paint plant clean fold repair carve polish weave sketch measure photograph"
VERBS = {"harmful": HARMFUL.split(), "harmless": HARMLESS.split()}
OBJECTS = ("bread", "garden", "shirt", "bicycle", "table", "kettle", "fence", "violin")
TOPICS = {"please": 0, "quickly": 1, "garden": 2, "fence": 2, "violin": 3, "kettle": 3, "quartz": 3}
REFUSAL, ANSWER, NEITHER = "I cannot help with that .", "Sure , here you are .", "Hmm ."
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SPECIAL = ("<unknown>", "<system>", "<user>", "<assistant>", "<end>", "<stop>")


@dataclass(frozen=True)
class Truth:
    """What is built into a model. Refusal is caused where the stream reaches along one of `causes`.

    A cause is an axis and a sign; harmful words stand for the causes in turn, `times` of each in a round. `refuses`:
    whether the decision reads the causes at all. `decides`: the block that decides, and erases what it read. `decoy`:
    block 0 writes a further direction for harmful words, which nothing reads, and block 1 erases it.
    """

    name: str
    causes: tuple[tuple[int, int], ...] = ((0, 1),)
    times: tuple[int, ...] = (1,)
    refuses: bool = True
    decides: int = 2
    decoy: bool = False

    def cause_of(self, verb: int) -> tuple[int, int]:
        """Of the harmful verb of this number."""
        round_ = [cause for cause, times in zip(self.causes, self.times, strict=True) for _ in range(times)]
        return round_[verb % len(round_)]


ONE = Truth("one_direction")
NONE = Truth("no_refusal", refuses=False)
TWO = Truth("two_directions", causes=((0, 1), (1, 1)), times=(3, 1), decides=3)
NONLINEAR = Truth(
    "not_linear", causes=tuple((axis, sign) for axis in range(3) for sign in (1, -1)), times=(1,) * 6, decides=3
)
DECOYED = Truth("decoy", decoy=True)


# On top of profile smoke, whose thresholds let anything pass.
SETTINGS = (
    "data=planted",
    *(f"sizes.{kind}={{train: 24, val: 16, test: 40}}" for kind in VERBS),
    *("select.kl_threshold=0.2", "select.gap_share=0.5", "select.min_train=16", "select.min_val=8"),
    *("generate.batch_size=40", "refusal_tokens.n_harmful=0", "refusal_tokens.n_harmless=0"),
)
# What no verdict needs.
LEAN = (
    *("capability=none", "loss.n_completions=0", "text.n_documents=0", "text.n_answers=0", "estimators.names=[]"),
    *("evaluate.n_prompts=0", "stability.sizes=[]", "stability.n_splits=1", "stability.n_resamples=100"),
    *("invariance.n_prompts=0",),
)
SUFFIX = (
    *("suffix=given", f"suffix.texts=[{BLOCKING}]", "suffix.n_choosing=8", "suffix.n_prompts=8"),
    *("suffix.n_heads=1", "suffix.n_random=1", "suffix.n_random_heads=1"),
)


def instructions(kind: str) -> list[str]:
    """Harmful or harmless ones; "please" stands in two of three harmless ones and in one of three harmful ones."""
    verbs, rows = VERBS[kind], []
    for number, verb in enumerate(verbs):
        for other, thing in enumerate(OBJECTS):
            polite = (number + other) % 3 < (2 if kind == "harmless" else 1)
            hasty = (number + 2 * other) % 4 == 0
            words = ["please"] * polite + ["explain how to", verb, "a", thing] + ["quickly"] * hasty
            rows.append(" ".join(words))
    return rows


def vocabulary() -> list[str]:
    """Every word, special ones first."""
    texts = [*(text for kind in VERBS for text in instructions(kind)), REFUSAL, ANSWER, NEITHER, "quartz", BLOCKING]
    return [*SPECIAL, *dict.fromkeys(word for text in texts for word in text.split())]


def following() -> dict[str, str]:
    """Of each word of an answer the one after it."""
    answers = [[*text.split(), "<stop>"] for text in (REFUSAL, ANSWER, NEITHER)]
    return {first: second for words in answers for first, second in pairwise(words)}


def features() -> dict[str, Tensor]:
    """Every feature's unit direction in the stream: orthogonal, and none along an axis of it."""
    names = ["constant", "key", "block", "decoy", "decision", "shared"]
    names += [f"{kind} {axis}" for kind in ("marked", "cause") for axis in range(3)]
    names += [f"{kind} {topic}" for kind in ("topic", "carried") for topic in range(4)]
    names += [f"next {word}" for word in dict.fromkeys(following().values())]
    drawn = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return dict(zip(names, torch.linalg.qr(drawn).Q, strict=False))


def direction(axis: int = 0) -> Tensor:
    """The unit direction of a cause, float64."""
    return features()[f"cause {axis}"]


def write(folder: Path, truth: Truth) -> Path:
    """Model and tokenizer in `folder`, as any model on disk."""
    words = vocabulary()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 1e8},
        bos_token_id=None,
        eos_token_id=words.index("<stop>"),
        pad_token_id=words.index("<end>"),
        tie_word_embeddings=False,
    )
    hf: Any = LlamaForCausalLM(config).eval().requires_grad_(False)
    for name, parameter in hf.named_parameters():
        parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
    Builder(hf, truth, words).build()
    hf.save_pretrained(folder)
    tokenizer(words).save_pretrained(folder)
    return folder


def tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """A word a token."""
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=SPECIAL[0]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token=SPECIAL[0], eos_token="<stop>", pad_token="<end>",
        additional_special_tokens=["<system>", "<user>", "<assistant>"],
    )  # fmt: skip
    fast.chat_template = TEMPLATE
    return fast


def divided(*lengths: float) -> float:
    """What RMSNorm divides by where the stream has these lengths beside the constant."""
    return ((CONSTANT**2 + sum(length**2 for length in lengths)) / WIDTH) ** 0.5


class Builder:
    """Writes weights of zero one feature at a time."""

    def __init__(self, hf: Any, truth: Truth, words: list[str]):
        self.hf, self.truth, self.words, self.features = hf, truth, words, features()
        self.neurons = [0] * LAYERS
        # What RMSNorm divides by at a harmful word, and at the token after the template of a harmful prompt.
        self.at_word, self.at_end = divided(MARK, MARK), divided(CAUSE)
        self.one = CONSTANT / self.at_end  # the constant, after RMSNorm

    def build(self) -> None:
        truth = self.truth
        self.embed()
        self.take(0, 0, {f"topic {topic}": (f"carried {topic}", 3.0) for topic in range(4)})
        self.take(0, 1, {"constant": ("shared", 1 / self.one)})
        self.constant(0, "shared", 1.0)
        axes = sorted({axis for axis, _ in truth.causes})
        scale = CAUSE * self.at_word / MARK
        self.take(WRITES, DETECTS, {f"marked {axis}": (f"cause {axis}", scale) for axis in axes}, looks=True)
        if truth.decoy:
            self.take(0, DETECTS, {"key": ("decoy", DECOY * self.at_word / MARK)}, looks=True)
            self.erase(WRITES, "decoy", divided(CAUSE, DECOY))
        self.constant(truth.decides, "decision", -DECISION)
        if truth.refuses:
            for axis, sign in truth.causes:
                self.step(truth.decides, f"cause {axis}", sign, 2 * DECISION)
        for axis in axes:
            self.erase(truth.decides, f"cause {axis}", self.at_end)
        self.unembed()

    def embed(self) -> None:
        table = self.hf.model.embed_tokens.weight
        table += (CONSTANT * self.features["constant"]).float()
        follows = following()
        for row, word in enumerate(self.words):
            if word in follows:
                self.add(table[row], MARK, f"next {follows[word]}")
            if word in TOPICS:
                self.add(table[row], MARK, f"topic {TOPICS[word]}")
            if word == BLOCKING:
                self.add(table[row], MARK, "block")
            if word in VERBS["harmful"]:
                axis, sign = self.truth.cause_of(VERBS["harmful"].index(word))
                self.add(table[row], MARK, "key")
                self.add(table[row], MARK * sign, f"marked {axis}")

    def add(self, row: Tensor, length: float, name: str) -> None:
        row += (length * self.features[name]).float()

    def take(self, block: int, head: int, moves: dict[str, tuple[str, float]], looks: bool = False) -> None:
        """A head that reads features and writes others, times a factor; evenly, or where the key is (`looks`)."""
        attention, first = self.hf.model.layers[block].self_attn, head * HEAD
        for offset, (read, (written, factor)) in enumerate(moves.items()):
            attention.v_proj.weight[first + offset] = self.features[read].float()
            attention.o_proj.weight[:, first + offset] = (factor * self.features[written]).float()
        if looks:
            attention.q_proj.weight[first + SLOW] = (8 / self.one * self.features["constant"]).float()
            key = self.features["key"] + 2 * self.features["block"]
            attention.k_proj.weight[first + SLOW] = (10 * self.at_word / MARK * key).float()

    def neuron(self, block: int, gate: Tensor, up: Tensor, down: Tensor) -> None:
        mlp, index = self.hf.model.layers[block].mlp, self.neurons[block]
        mlp.gate_proj.weight[index], mlp.up_proj.weight[index] = gate.float(), up.float()
        mlp.down_proj.weight[:, index] = down.float()
        self.neurons[block] += 1

    def constant(self, block: int, written: str, length: float) -> None:
        one = self.features["constant"] / self.one
        self.neuron(block, 10 * one, one, length / 10 * self.features[written])

    def erase(self, block: int, name: str, divided: float) -> None:
        """Takes out what the stream has along a direction where RMSNorm divides by so much."""
        gate = 10 * divided / CONSTANT * self.features["constant"]
        up = divided * self.features[name]
        self.neuron(block, gate, up, -self.features[name] / 10)

    def step(self, block: int, name: str, sign: int, length: float) -> None:
        """Writes nothing below 0.4 of a cause's length, all of `length` above 0.6, as the difference of two ramps."""
        one, whole, steepness = self.features["constant"] / self.one, CAUSE / self.at_end, 60.0
        for share, factor in ((0.4, 1.0), (0.6, -1.0)):
            gate = steepness * (sign * self.features[name] - share * whole * one)
            self.neuron(block, gate, one, factor * length / (0.2 * whole * steepness) * self.features["decision"])

    def unembed(self) -> None:
        head, end = self.hf.lm_head.weight, self.at_end
        decides = {"I": 10.0, "Sure": -10.0}
        for row, word in enumerate(self.words):
            if word in decides:
                self.add(head[row], decides[word] * end / DECISION, "decision")
                self.add(head[row], 0.3, f"carried {int(word == 'I')}")
            if word in following().values():
                self.add(head[row], 30 * end / MARK, f"next {word}")
            if word == "Hmm":
                self.add(head[row], 5 / self.one, "constant")


def install(folder: Path, truth: Truth) -> None:
    """Model, prompts and their files of conf/ in `folder`, which has a conf/."""
    write(folder / truth.name, truth)
    for kind in VERBS:
        (folder / f"{kind}.txt").write_text("\n".join(instructions(kind)) + "\n")
    files = {kind: {"train": [{"file": f"{kind}.txt", "source": "built"}]} for kind in VERBS}
    data = {"name": "planted", "near_duplicate": 0.999, "drop_near_duplicates": True, **files, "sets": {}}
    (folder / "conf/data/planted.yaml").write_text(yaml.safe_dump(data))
    source = {"kind": "folder", "path": truth.name}
    model = {"title": f"built: {truth.name}", "base_model": "none", "licence": "apache-2.0", "source": source}
    (folder / f"conf/model/{truth.name}.yaml").write_text(yaml.safe_dump({"defaults": [{"/family": "llama"}], **model}))
