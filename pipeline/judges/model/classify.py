"""A safety judge at work: a verdict on every completion."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import UserError
from pipeline.judges.formats.formats import Prompt, Turn
from pipeline.judges.formats.reading import Answer
from pipeline.judges.model.classifier import Classifier
from pipeline.model.batching import length_sorted_batches, run_batches
from pipeline.model.chat import chat
from pipeline.model.generation import library
from pipeline.model.passes.ticking import Advance, blocks_of, exactly, silent, ticking, ticking_all
from pipeline.results.verdict import Verdict


@dataclass(frozen=True)
class Judged:
    """The verdict on row number `row`, and the answers that it was read from.

    Judges of the same weights and prompts can read each other's: `wildguard_refusal` those of `wildguard`.
    """

    row: int
    verdict: Verdict
    answers: tuple[Answer, ...]


@torch.inference_mode()
def classify(
    judge: Classifier,
    rows: Sequence[tuple[str, str]],
    batch_size: int,
    done: Container[int] = (),
    progress: Advance = silent,
    expect: Callable[[float, float], None] = lambda total, done: None,
) -> Iterator[list[Judged]]:
    """Verdicts on rows of (instruction, completion), batch by batch, so that a caller can keep what is finished.

    Rows of like length share a batch, the same whatever is `done`; batches are halved where memory runs out. A row
    that is longer than the model can read is unknown. `expect` is told the tokens of all rows, with answers of full
    length, and of those that need not be run, `progress` of what is.
    """
    questions = [encode(judge, prompt, completion) for prompt, completion in rows]
    lengths = [max(map(len, row)) for row in questions]
    short = [row for row, length in enumerate(lengths) if length <= judge.longest]
    long = [row for row, length in enumerate(lengths) if length > judge.longest and row not in done]
    if long:
        yield [_too_long(row, lengths[row], judge.longest) for row in long]
    batches = length_sorted_batches([lengths[row] for row in short], 10**9, max_rows=batch_size)
    named = [[short[index] for index in batch] for batch in batches]
    wanted = [batch for batch in named if any(row not in done for row in batch)]
    whole, left = (sum(_n_tokens(judge, questions[row]) for batch in part for row in batch) for part in (named, wanted))
    expect(float(whole), float(whole - left))

    def run(batch: list[int]) -> list[tuple[Answer, ...]]:
        asked = zip(*(questions[row] for row in batch), strict=True)
        with exactly(sum((_n_tokens(judge, questions[row]) for row in batch), 0.0), progress) as advance:
            return list(zip(*(_answers(judge, prompts, advance) for prompts in asked), strict=True))

    for batch, answers in run_batches(wanted, lengths, run):
        judged = [Judged(row, judge.form.verdict(said), said) for row, said in zip(batch, answers, strict=True)]
        yield [item for item in judged if item.row not in done]


def _n_tokens(judge: Classifier, questions: Sequence[Sequence[int]]) -> float:
    answer = 0 if judge.form.choices else judge.form.max_new_tokens - 1
    return float(sum(len(tokens) + answer for tokens in questions))


def encode(judge: Classifier, prompt: str, completion: str) -> list[list[int]]:
    """Token ids of each of the judge's questions about one completion."""
    completion = _clipped(judge, completion)
    return [_tokens(judge, asked) for asked in judge.form.build(prompt, completion)]


def _tokens(judge: Classifier, asked: Prompt) -> list[int]:
    if not isinstance(asked, str):
        return chat.encode_plain(judge.tokenizer, [rendered(judge, asked)])[0]
    return judge.tokenizer(asked, add_special_tokens=judge.form.add_special_tokens)["input_ids"]  # type: ignore


def rendered(judge: Classifier, turns: Sequence[Turn]) -> str:
    """The conversation as the chat template writes it. Raises UserError when a turn is left out of it."""
    as_parts = judge.form.parts
    messages: list[dict[str, Any]] = [
        {"role": role, "content": [{"type": "text", "text": content}] if as_parts else content}
        for role, content in turns
    ]
    try:
        text = str(judge.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception:  # a template is a stranger's program
        text = ""
    if not text or not all(content.strip() in text for _, content in turns):
        raise UserError(
            f"judge '{judge.form.name}': the chat template leaves out part of the conversation: "
            f"use the tokenizer of {judge.form.repo}"
        )
    return text


def _clipped(judge: Classifier, completion: str) -> str:
    if not judge.form.clip or len(judge.tokenizer(completion)["input_ids"]) <= judge.form.clip:  # type: ignore[arg-type]
        return completion
    kept = judge.tokenizer(completion, truncation=True, max_length=judge.form.clip)["input_ids"]
    return chat.decode(judge.tokenizer, kept, skip_special=True)  # type: ignore[arg-type]


def _too_long(row: int, length: int, longest: int) -> Judged:
    return Judged(row, Verdict("unknown", f"{length} tokens, and the judge reads {longest}"), ())


def _answers(judge: Classifier, prompts: Sequence[list[int]], advance: Advance) -> list[Answer]:
    worth = _n_tokens(judge, prompts)
    if judge.form.choices:
        with ticking(blocks_of(judge.hf), worth, advance):
            return [tuple(row) for row in choice_probabilities(judge, prompts).tolist()]
    with ticking_all(blocks_of(judge.hf), worth, advance):
        return list(_texts(judge, prompts))


def choice_probabilities(judge: Classifier, prompts: Sequence[list[int]]) -> Float[Tensor, "prompt choice"]:
    """Probability, of all next tokens, that each choice comes next; float64."""
    padded = chat.pad_left(prompts, judge.pad_id)
    logits = judge.hf(**padded.inputs(judge.hf), use_cache=False, logits_to_keep=1).logits[:, -1]
    choices = judge.tokenizer.convert_tokens_to_ids(list(judge.form.choices))
    return logits.cpu().double().softmax(dim=-1)[:, choices]


def _texts(judge: Classifier, prompts: Sequence[list[int]]) -> list[str]:
    """Greedy answers; positions count from the mask, so that padding changes nothing."""
    padded = chat.pad_left(prompts, judge.pad_id)
    rows = library.generate(judge.hf, judge.tokenizer, padded, judge.pad_id, judge.form.max_new_tokens)
    return [chat.decode(judge.tokenizer, tokens, skip_special=True) for tokens in rows]
