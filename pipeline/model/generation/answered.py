"""Short greedy answers, and the logits from which each begins."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.model.generation.generation import generate, n_tokens
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import forward
from pipeline.model.passes.forward import Logits, last_logits
from pipeline.progress import progress


@dataclass(frozen=True, eq=False)
class Answered:
    """Tokens of the answer to every prompt, and the logits after each prompt."""

    answers: list[tuple[int, ...]]
    logits: Logits


def answer(
    model: ChatModel, prompts: Sequence[Sequence[int]], sizes: tuple[int, int], max_tokens: int, name: str
) -> Answered:
    """`sizes`: tokens of an answer and prompts in a batch; `max_tokens`: prompt tokens in one pass; `name`: shown."""
    by_row: dict[int, tuple[int, ...]] = {}
    with progress(f"answers, {name}", n_tokens(model, prompts, *sizes) + forward.n_tokens(model, prompts)) as bar:
        for batch in generate(model, prompts, None, *sizes, max_tokens=max_tokens, progress=bar):
            by_row |= {item.row: item.tokens for item in batch}
        bar.step(f"refusal metric, {name}")
        logits = last_logits(model, prompts, max_tokens, bar)
    return Answered([by_row[row] for row in range(len(prompts))], logits)
