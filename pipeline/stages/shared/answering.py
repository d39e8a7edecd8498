"""Greedy answers under a list of conditions: what `completions` and `further` do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.artifacts import records, samples
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.rows import PartialRows
from pipeline.maths.experiment import Condition, Group, groups
from pipeline.model.chat import thoughts
from pipeline.model.generation.generation import generate_jobs, job_tokens
from pipeline.model.loading.loading import ChatModel
from pipeline.progress import Bar, progress


@dataclass(frozen=True)
class Work:
    """Conditions that share batches, the prompts of each, and what of their answers is on disk."""

    group: Group
    prompts: Sequence[Any]
    tokens: Sequence[Sequence[int]]
    partial: PartialRows

    @property
    def jobs(self) -> list[tuple[int, int]]:
        """(condition, prompt) by number, in the order of a file of completions after the other."""
        return [(state, prompt) for state in range(len(self.group)) for prompt in range(len(self.prompts))]


def answer(
    config: Config,
    layout: Layout,
    model: ChatModel,
    plan: Sequence[Condition],
    limit: int | None = None,
    systems: Mapping[str, str] | None = None,
) -> None:
    """One file of completions per condition; batches already on disk are not generated again.

    `limit`: at most so many prompts of each set; `systems`: system prompts by the name that conditions have.
    """
    texts = {"": None, **(systems or {})}
    work = [_prepared(config, layout, model, group, limit, texts[group[0].label.system]) for group in groups(plan)]
    total, left = (sum(_n_tokens(config, model, each, done) for each in work) for done in (False, True))
    with progress("answers", total, done=total - left) as bar:
        for each in work:
            _generate(config, model, each, bar)
    for each in work:
        rows = {row["row"]: {key: value for key, value in row.items() if key != "row"} for row in each.partial.rows}
        for state, condition in enumerate(each.group):
            own = range(state * len(each.prompts), (state + 1) * len(each.prompts))
            files.write_jsonl(layout.completions(condition.label), [rows[job] for job in own])
    for each in work:
        each.partial.discard()


def _prepared(
    config: Config, layout: Layout, model: ChatModel, group: Group, limit: int | None, system: str | None
) -> Work:
    prompts = records.read_prompts(layout.prompts(group[0].label.prompt_set))[:limit]
    recipe = [
        identity(config.model.source),
        [[condition.name, samples.intervention_recipe(condition.intervention)] for condition in group],
        system,
        [asdict(prompt) for prompt in prompts],
    ]
    key = files.content_hash([recipe, asdict(config.model.chat), vars(config.engine), vars(config.generate)])
    tokens = model.encode([prompt.instruction for prompt in prompts], thoughts=True, system=system)
    return Work(group, prompts, tokens, PartialRows(layout.partial(f"completions-{key}")))


def _n_tokens(config: Config, model: ChatModel, work: Work, leave_out_done: bool) -> float:
    done = {row["row"] for row in work.partial.rows} if leave_out_done else ()
    sizes = (config.generate.max_new_tokens, config.generate.batch_size)
    return job_tokens(model, work.tokens, len(work.group), work.jobs, *sizes, done)


def _generate(config: Config, model: ChatModel, work: Work, bar: Bar) -> None:
    done, jobs = {row["row"] for row in work.partial.rows}, work.jobs
    names = [condition.name for condition in work.group]
    bar.step(names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more at once")
    for batch in generate_jobs(
        model,
        work.tokens,
        [condition.intervention for condition in work.group],
        jobs,
        config.generate.max_new_tokens,
        config.generate.batch_size,
        done=done,
        max_tokens=config.engine.max_batch_tokens,
        progress=bar,
    ):
        work.partial.append(
            {
                "row": item.row,
                "id": work.prompts[jobs[item.row][1]].id,
                "prompt_set": work.group[0].label.prompt_set,
                "completion": _text(model, item.tokens),
                "prefixes": _prefixes(config, model, item.tokens),
                "n_tokens": len(item.tokens),
                "finished": item.finished,
            }
            for item in batch
        )


def _text(model: ChatModel, tokens: Sequence[int]) -> str | None:
    """The answer in generated tokens; None while a model that thinks has not begun it."""
    return thoughts.spoken(model.tokenizer, tokens, model.format)


def _prefixes(config: Config, model: ChatModel, tokens: Sequence[int]) -> dict[str, int | None]:
    """Characters of the answer that stand after each of generate.lengths tokens."""
    lengths = [length for length in config.generate.lengths if length < config.generate.max_new_tokens]
    texts = {length: _text(model, tokens[:length]) for length in lengths}
    return {str(length): None if text is None else len(text) for length, text in texts.items()}
