"""How fast answers are generated: against the library's `generate`, with and without ablation, by batch size."""

from collections.abc import Callable, Iterator, Sequence

import torch

from pipeline.bench.material import Material
from pipeline.bench.timing import Row, in_turn, median, median_ratio
from pipeline.maths.interventions import DirectionalAblation, Intervention
from pipeline.model.generation.decoding import Answer, Decoder, by_library
from pipeline.model.generation.generation import generate
from pipeline.model.passes.intervene import intervene

SECTION = "generation"
LIBRARY_BATCH = 8  # rows of the plain reference: fixed, in the prompts' own order, padded on the left
N_TOKENS = 32  # of every answer, where answers of one length are compared


def rows(material: Material, repeats: int) -> Iterator[Row]:
    """Against the library to the answers' own ends; then answers of one length, with ablation and by batch size."""
    settings = material.config.generate
    yield from against_library(material, settings.max_new_tokens, settings.batch_size, repeats)
    yield from cost_of_ablation(material, N_TOKENS, settings.batch_size, repeats)
    yield from by_batch_size(material, sorted({LIBRARY_BATCH, 32, settings.batch_size}), N_TOKENS, repeats)


def against_library(m: Material, max_new_tokens: int, batch_size: int, repeats: int) -> Iterator[Row]:
    """Ours and transformers' `generate` on the same prompts: seconds, and how many answers have the same tokens."""
    prompts, answers = m.prompts, {}

    def ours() -> list[Answer]:
        batches = generate(m.model, prompts, None, max_new_tokens, batch_size, max_tokens=m.max_tokens)
        answered = sorted((item for batch in batches for item in batch), key=lambda item: item.row)
        return [(item.tokens, item.finished) for item in answered]

    def library() -> list[Answer]:
        batches = [prompts[start : start + LIBRARY_BATCH] for start in range(0, len(prompts), LIBRARY_BATCH)]
        with torch.inference_mode():
            return [answer for batch in batches for answer in by_library(m.model, batch, max_new_tokens, 0)]

    names = {"ours": ours, f"generate, batch {LIBRARY_BATCH}": library}
    seconds = in_turn({name: lambda n=name, f=run: answers.update({n: f()}) for name, run in names.items()}, repeats)
    for name, found in answers.items():
        n_tokens = sum(len(tokens) + ended for tokens, ended in found)
        yield Row(
            SECTION, f"{name}, {len(prompts)} prompts to their ends", n_tokens / median(seconds[name]), "tokens/s"
        )
    times, found = list(seconds.values()), list(answers.values())
    yield Row(SECTION, "generate / ours", median_ratio(times[1], times[0]), "times", 1.5, at_least=True)
    same = sum(a == b for a, b in zip(*found, strict=True)) / len(prompts)
    exact = 1.0 if m.model.hf.dtype == torch.float32 else None  # lower precision rounds other batches otherwise
    yield Row(SECTION, "answers with the very same tokens", same, "of all", exact, at_least=True)


def cost_of_ablation(m: Material, n_tokens: int, batch_size: int, repeats: int) -> Iterator[Row]:
    """Seconds with and without directional ablation.

    Every answer has `n_tokens` tokens: ablated answers end later, which is no cost of the ablation.
    """
    kinds: dict[str, Intervention] = {"plain": None, "ablated": DirectionalAblation(m.sample(1)[0])}
    tasks = {name: _whole_answers(m, m.prompts, kind, n_tokens, batch_size) for name, kind in kinds.items()}
    seconds = in_turn(tasks, repeats)
    for name in kinds:
        rate = n_tokens * len(m.prompts) / median(seconds[name])
        yield Row(SECTION, f"{name}, {n_tokens} tokens each", rate, "tokens/s")
    yield Row(SECTION, "ablated / plain", median_ratio(seconds["ablated"], seconds["plain"]), "times", 1.03)


def by_batch_size(m: Material, sizes: Sequence[int], n_tokens: int, repeats: int) -> Iterator[Row]:
    """Tokens per second at each batch size, one full batch of the prompts each (repeated where they are too few)."""
    whole = {size: [m.prompts[index % len(m.prompts)] for index in range(size)] for size in sizes}
    tasks = {f"batch {size}": _whole_answers(m, rows, None, n_tokens, size) for size, rows in whole.items()}
    seconds = in_turn(tasks, repeats)
    for size in sizes:
        rate = n_tokens * size / median(seconds[f"batch {size}"])
        yield Row(SECTION, f"batch {size}, {n_tokens} tokens each", rate, "tokens/s")


def _whole_answers(
    m: Material, prompts: Sequence[Sequence[int]], intervention: Intervention, n_tokens: int, batch_size: int
) -> Callable[[], list[Answer]]:
    """A task: answers that no token ends, in batches of rising length."""
    ordered = sorted(prompts, key=len)
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]

    def run() -> list[Answer]:
        decoder = Decoder(m.model, ordered, n_tokens, max_tokens=m.max_tokens, stops=())
        with torch.inference_mode(), intervene(m.model, intervention):
            return [answer for batch in batches for answer in decoder.answers(batch)]

    return run
