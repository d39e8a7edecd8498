"""scores: bypass, induce and KL of every candidate direction on the val prompts."""

from collections.abc import Sequence

from pipeline.artifacts import files, records, tensors
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths.directions import difference_in_means, is_zero
from pipeline.maths.selection import CandidateScores, max_layer_for
from pipeline.model import chat, scoring
from pipeline.model.loading import ChatModel
from pipeline.progress import progress
from pipeline.stages.entry import run_stage
from pipeline.stages.models import open_model

ADDED = 1.0  # the paper scores induce with the raw direction, whatever is added when generating


def scores(config: Config, layout: Layout) -> None:
    """A row per (position, layer) below the layer bound; none when the filter left too few prompts."""
    if records.read_filter_verdict(layout.filter_summary).verdict:
        records.write_scores(layout.scores, [])
        records.write_baselines(layout.baselines, None, {})
        return
    model = open_model(config)
    validation = _validation(config, layout, model)
    rows = _sweep(config, layout, model, validation)
    records.write_scores(layout.scores, rows)
    records.write_baselines(layout.baselines, validation.baselines, validation.sizes)


def _validation(config: Config, layout: Layout, model: ChatModel) -> scoring.Validation:
    harmful, harmless = (
        model.encode(records.kept_instructions(layout, f"{kind}_val")) for kind in ("harmful", "harmless")
    )
    refusal_tokens = chat.single_token_ids(model.tokenizer, config.model.family.refusal_tokens)
    return scoring.prepare(model, harmful, harmless, refusal_tokens, config.engine.max_batch_tokens)


def _sweep(
    config: Config, layout: Layout, model: ChatModel, validation: scoring.Validation
) -> Sequence[CandidateScores]:
    """Scores in (position, layer) order; each is kept as it comes, so that a run can be resumed."""
    means = tensors.read_tensors(layout.activations, model=identity(config.model.source))
    r = difference_in_means(means["harmful_mean"], means["harmless_mean"])
    todo = scoring.candidates(r, max_layer_for(config.select.layer_share, model.n_layers))
    partial = records.PartialRows(layout.partial(_key(config, layout)))
    rows = [records.score_from_row(row) for row in partial.rows]
    with progress("candidates", len(todo), unit="candidate", done=len(rows)) as advance:
        for candidate in todo[len(rows) :]:
            if is_zero(candidate.vector, means["harmful_mean"][candidate.position, candidate.layer]):
                row = CandidateScores.without_direction(candidate.position, candidate.layer)
            else:
                row = scoring.score(model, candidate, validation, ADDED, config.engine.max_batch_tokens)
            partial.append([records.score_row(row)])
            rows.append(row)
            advance(1)
    partial.discard()
    return rows


def _key(config: Config, layout: Layout) -> str:
    inputs = [files.file_hash(layout.activations), files.file_hash(layout.baseline)]
    share = config.select.layer_share
    return "scores-" + files.content_hash([identity(config.model.source), inputs, share, vars(config.engine)])


if __name__ == "__main__":
    run_stage(scores)
