"""The test prompts on which what was chosen is scored: none of them has helped to find or to choose anything."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config

if TYPE_CHECKING:
    from pipeline.model.loading.loading import ChatModel
    from pipeline.model.passes import scoring


def test_work(layout: Layout, model: "ChatModel") -> "scoring.Work":
    """How many tokens scoring on the test prompts takes, before anything has run."""
    from pipeline.model.passes import scoring

    return scoring.Work.of(model, *_prompts(layout, model))


def test_validation(
    config: Config, layout: Layout, model: "ChatModel", advance: Callable[[float], None]
) -> "scoring.Validation":
    """Every test prompt of both classes, refused or not, with the unchanged model's answers."""
    from pipeline.model.chat import chat
    from pipeline.model.passes import scoring

    tokens = chat.token_ids(records.read_refusal_ids(layout.refusal_ids)["ids"])
    return scoring.prepare(model, *_prompts(layout, model), tokens, config.engine.max_batch_tokens, advance)


def _prompts(layout: Layout, model: "ChatModel") -> tuple[list[list[int]], list[list[int]]]:
    harmful, harmless = (records.read_prompts(layout.prompts(f"{kind}_test")) for kind in ("harmful", "harmless"))
    asked = ([prompt.instruction for prompt in rows] for rows in (harmful, harmless))
    first, second = map(model.encode, asked)
    return first, second
