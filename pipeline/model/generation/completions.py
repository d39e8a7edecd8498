"""Completions of prompts under several interventions that share batches, as they stand in files."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.maths.interventions import Intervention
from pipeline.maths.sampling import Draws
from pipeline.model.chat import thoughts
from pipeline.model.generation.generation import generate_jobs, job_tokens
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.ticking import Advance, silent


@dataclass(frozen=True)
class Asked:
    """Prompts that are answered under each intervention.

    `lengths`: after how many tokens answers are cut as well; `draws`: by which they are drawn, None: greedy.
    """

    interventions: Sequence[Intervention]
    prompts: Sequence[Sequence[int]]
    max_new_tokens: int
    batch_size: int
    lengths: Sequence[int]
    draws: Draws | None = None

    @property
    def jobs(self) -> list[tuple[int, int]]:
        """(intervention, prompt) by number, in the order of a file of completions after the other."""
        return [(state, prompt) for state in range(len(self.interventions)) for prompt in range(len(self.prompts))]

    def n_tokens(self, model: ChatModel, done: Collection[int] = ()) -> float:
        """Tokens by which `completions` advances."""
        sizes = (self.max_new_tokens, self.batch_size)
        return job_tokens(model, self.prompts, len(self.interventions), self.jobs, *sizes, done)


def completions(
    model: ChatModel, asked: Asked, max_tokens: int, done: Collection[int] = (), progress: Advance = silent
) -> Iterator[dict[int, dict[str, Any]]]:
    """Answers by job, batch by batch, but those of jobs that are done; `max_tokens`: prompt tokens in one pass."""
    sizes = (asked.max_new_tokens, asked.batch_size)
    settings: Any = {"max_tokens": max_tokens, "progress": progress, "draws": asked.draws}
    batches = generate_jobs(model, asked.prompts, asked.interventions, asked.jobs, *sizes, done, **settings)
    for batch in batches:
        yield {
            item.row: {
                "completion": _text(model, item.tokens),
                "prefixes": _prefixes(model, asked, item.tokens),
                "n_tokens": len(item.tokens),
                "finished": item.finished,
            }
            for item in batch
        }


def _text(model: ChatModel, tokens: Sequence[int]) -> str | None:
    """The answer in generated tokens; None while a model that thinks has not begun it."""
    return thoughts.spoken(model.tokenizer, tokens, model.format)


def _prefixes(model: ChatModel, asked: Asked, tokens: Sequence[int]) -> dict[str, int | None]:
    """Characters of the answer that stand after each of the lengths."""
    texts = {n: _text(model, tokens[:n]) for n in asked.lengths if n < asked.max_new_tokens}
    return {str(n): None if text is None else len(text) for n, text in texts.items()}
