"""further: answers to the further evaluation sets, and under other system prompts."""

from pipeline.artifacts import directions
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model
from pipeline.maths.labels import MAIN_EFFECTS


def further(config: Config, layout: Layout) -> None:
    """One file of completions per set, system prompt and intervention of the chosen direction; none for no prompts."""
    if not config.evaluate.n_prompts:
        files.write_json(layout.systems, {})
        return
    from pipeline.maths.experiment import further_conditions
    from pipeline.model.chat import chat
    from pipeline.stages.shared.answering import answer

    sources = directions.read_sources(layout, identity(config.model.source), config.generate.coefficient)
    chosen = {name: value for name, value in sources.get("", {}).items() if name in config.evaluate.effects}
    model, settings = open_model(config), config.evaluate
    left_out = {
        name: reason
        for name, system in settings.systems.items()
        if (reason := chat.without_effect(model.tokenizer, system, model.format))
    }
    kinds = {**{kind: kind for kind in MAIN_EFFECTS}, **{name: spec.kind for name, spec in config.data.sets.items()}}
    asked = {name: kinds[name] for name in settings.under_systems if name in kinds}
    systems = [name for name in settings.systems if name not in left_out]
    plan = further_conditions(chosen, list(config.data.sets), systems, asked)
    answer(config, layout, model, plan, settings.n_prompts, settings.systems)
    files.write_json(layout.systems, left_out)
