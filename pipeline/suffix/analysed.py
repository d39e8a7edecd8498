"""The suffix analysis of a run, with the sizes that its configuration has."""

from collections.abc import Callable

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.disk.steps import Steps
from pipeline.maths.directions import Direction
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel
from pipeline.prompts.prompt import Prompt
from pipeline.suffix.model.analysis import Analysis, Instructions, Settings


def analysis_of(
    config: Config,
    layout: Layout,
    model: ChatModel,
    chosen: Direction,
    steps: Steps,
    refuses: Callable[[str, str | None], bool | None],
) -> Analysis:
    """Everything that its steps share. `refuses`: a judge's verdict on (instruction, answer)."""
    tokens = records.read_refusal_ids(layout.refusal_ids)
    batches = {"batch_size": config.generate.batch_size, "max_tokens": config.engine.max_batch_tokens}
    sizes = {name: getattr(config.suffix, name) for name in ("n_prompts", "n_random", "n_heads", "n_random_heads")}
    settings = Settings(**sizes, max_new_tokens=config.suffix.max_new_tokens, **batches, seed=config.seed)
    ids = chat.token_ids(tokens["ids"])
    return Analysis(model, chosen.r_hat, chosen.layer, ids, tokens["cutoff"], settings, steps, refuses)


def instructions_of(choosing: list[Prompt], harmful: list[Prompt], harmless: list[Prompt]) -> Instructions:
    """Texts by prompt id."""
    return Instructions(*({row.id: row.instruction for row in rows} for rows in (choosing, harmful, harmless)))
