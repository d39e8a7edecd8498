"""The val prompts that score directions, as every stage that scores one needs them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config

if TYPE_CHECKING:
    from pipeline.model.loading.loading import ChatModel
    from pipeline.model.passes import scoring

Prompts = tuple[list[list[int]], list[list[int]]]  # tokens of harmful ones, and of harmless ones

ADDED = 1.0  # the paper scores induce with the raw direction, whatever is added when generating


def work(layout: Layout, model: "ChatModel") -> "scoring.Work":
    """How many tokens scoring on the val prompts takes, before anything has run."""
    from pipeline.model.passes import scoring

    return scoring.Work.of(model, *_prompts(layout, model))


def validation(
    config: Config, layout: Layout, model: "ChatModel", advance: Callable[[float], None]
) -> "scoring.Validation":
    """Kept val prompts of both classes with the unchanged model's answers."""
    return prepared(config, layout, model, _prompts(layout, model), advance)


def prepared(
    config: Config, layout: Layout, model: "ChatModel", prompts: Prompts, advance: Callable[[float], None]
) -> "scoring.Validation":
    """Harmful and harmless prompts with the unchanged model's answers."""
    from pipeline.model.chat import chat
    from pipeline.model.passes import scoring

    tokens = chat.token_ids(records.read_refusal_ids(layout.refusal_ids)["ids"])
    return scoring.prepare(model, *prompts, tokens, config.engine.max_batch_tokens, advance)


def _prompts(layout: Layout, model: "ChatModel") -> Prompts:
    harmful, harmless = (records.kept_instructions(layout, f"{kind}_val") for kind in ("harmful", "harmless"))
    return model.encode(harmful), model.encode(harmless)
