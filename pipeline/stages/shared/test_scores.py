"""The test prompts, all of them, as every stage that scores a direction on them needs them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.stages.shared.validation import Prompts, prepared

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
    """Test prompts of both classes, whatever the model does with them, with the unchanged model's answers."""
    return prepared(config, layout, model, _prompts(layout, model), advance)


def _prompts(layout: Layout, model: "ChatModel") -> Prompts:
    harmful, harmless = (
        [prompt.instruction for prompt in records.read_prompts(layout.prompts(f"{kind}_test"))]
        for kind in ("harmful", "harmless")
    )
    return model.encode(harmful), model.encode(harmless)
