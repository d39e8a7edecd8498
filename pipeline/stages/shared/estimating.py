"""What stage `estimators` does with each of them: choose among its candidates, and try the choice on test prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import prompt_scores, records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.maths.selection import Baselines, CandidateScores, Place, PromptScores, Selection, select, thresholds_for
from pipeline.progress import progress
from pipeline.stages.shared.test_scores import test_validation, test_work

if TYPE_CHECKING:
    from pipeline.maths.equal_terms import Entrant
    from pipeline.model.loading.loading import ChatModel
    from pipeline.model.passes import scoring


def choice(
    config: Config, n_layers: int, scored: Mapping[Place, PromptScores], prompts: "scoring.Validation"
) -> dict[str, Any]:
    """What the rule chooses among candidates, and how often each place wins when val prompts are drawn again."""
    from pipeline.maths.stability import win_counts, winners

    thresholds = partial(thresholds_for, config.select.rule, n_layers, **config.select.limits())

    def choose(candidates: Sequence[CandidateScores], baselines: Baselines) -> Selection:
        return select(candidates, thresholds(baselines=baselines), config.select.rule)

    candidates = [prompt_scores.candidate_scores(place, scores) for place, scores in scored.items()]
    record = records.estimator_record(choose(candidates, prompts.baselines), candidates)
    metrics = prompts.harmful_metric.tolist(), prompts.harmless_metric.tolist()
    return {
        **record,
        "wins": winners(win_counts(scored, *metrics, choose, config.stability.n_resamples, config.seed)),
    }


def tested(
    config: Config, layout: Layout, model: "ChatModel", entrants: "Mapping[str, Entrant]"
) -> dict[str, dict[str, Any]]:
    """What each does to the test prompts, prompt by prompt, beside the refusal metric of the unchanged model."""
    from pipeline.model.passes import adding

    if not entrants:
        return {}
    tokens, found, most = test_work(layout, model), {}, config.engine.max_batch_tokens
    with progress("unchanged model", tokens.unchanged + adding.planned_tokens(tokens, entrants)) as bar:
        prompts = test_validation(config, layout, model, bar)
        unchanged = {"harmful": prompts.harmful_metric.tolist(), "harmless": prompts.harmless_metric.tolist()}
        for name, rows in adding.on_equal_terms(model, entrants, prompts, most, bar):
            for added in rows.added.values():
                prompt_scores.require_finite(name, PromptScores(rows.bypass, added.metric, (*rows.kl, *added.kl)))
            found[name] = {"unchanged": unchanged, **asdict(rows)}
    return found
