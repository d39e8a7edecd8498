"""Answers under a list of conditions: what `completions` and `further` do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.artifacts.resume import unfinished
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.steps import Steps
from pipeline.maths.experiment import Condition, Group, groups
from pipeline.model.generation.completions import Asked, completions
from pipeline.model.loading.loading import ChatModel
from pipeline.progress import Bar, progress
from pipeline.prompts.prompt import Prompt
from pipeline.stages.shared import sampling


@dataclass(frozen=True)
class Work:
    """Conditions that share batches, the prompts of each, and what of their answers is on disk."""

    group: Group
    prompts: Sequence[Prompt]
    asked: Asked
    kept: Steps

    @property
    def done(self) -> set[int]:
        """Jobs whose answers are on disk."""
        return set(map(int, self.kept.values))


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
    work = [_work(config, layout, model, group, limit, texts[group[0].label.system]) for group in groups(plan)]
    total = sum(each.asked.n_tokens(model) for each in work)
    left = sum(each.asked.n_tokens(model, each.done) for each in work)
    with progress("answers", total, done=total - left) as bar:
        for each in work:
            _generate(config, model, each, bar)
    for each in work:
        rows = [each.kept.values[str(job)] for job in range(len(each.asked.jobs))]
        for state, condition in enumerate(each.group):
            own = rows[state * len(each.prompts) : (state + 1) * len(each.prompts)]
            files.write_jsonl(layout.completions(condition.label), own)
    for each in work:
        each.kept.discard()


def _work(config: Config, layout: Layout, model: ChatModel, group: Group, most: int | None, system: str | None) -> Work:
    prompts = records.read_prompts(layout.prompts(group[0].label.prompt_set))[:most]
    conditions = [[condition.name, condition.intervention] for condition in group]
    made_by = [identity(config.model.source), config.model.chat, config.engine, config.generate]
    draws = sampling.draws(config, model, [prompt.id for prompt in prompts])
    kept = unfinished(layout.partial, "completions", made_by, conditions, system, prompts, draws)
    tokens = model.encode([prompt.instruction for prompt in prompts], thoughts=True, system=system)
    sizes = (config.generate.max_new_tokens, config.generate.batch_size, config.generate.lengths)
    return Work(group, prompts, Asked([each.intervention for each in group], tokens, *sizes, draws), kept)


def _generate(config: Config, model: ChatModel, work: Work, bar: Bar) -> None:
    first, n_more, jobs = work.group[0], len(work.group) - 1, work.asked.jobs
    bar.step(f"{first.name} and {n_more} more at once" if n_more else first.name)
    of_set = {"prompt_set": first.label.prompt_set}
    for batch in completions(model, work.asked, config.engine.max_batch_tokens, work.done, bar):
        work.kept.keep({str(job): {"id": work.prompts[jobs[job][1]].id, **of_set, **row} for job, row in batch.items()})
