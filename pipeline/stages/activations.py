"""activations: keep the prompts the model refuses or answers, and take the means of resid_pre."""

from collections.abc import Sequence
from typing import Any

from pipeline.artifacts import class_means, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.entry.model import open_model
from pipeline.maths.metrics import refusal_metric
from pipeline.maths.selection import FITTED_SETS, Asked, filter_verdict, kept_ids
from pipeline.model.chat import chat
from pipeline.model.generation import decoding
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import forward
from pipeline.model.passes.forward import last_logits
from pipeline.model.passes.tracing import n_tokens_run, resid_pre_moments
from pipeline.progress import Bar, progress
from pipeline.prompts.prompt import Prompt

Tokens = Sequence[Sequence[int]]


def activations(config: Config, layout: Layout) -> None:
    """Refusal metric of every train and val prompt, the filter, and the means of both classes."""
    model = open_model(config)
    prompts = {name: records.read_prompts(layout.prompts(name)) for name in FITTED_SETS}
    tokens = records.read_refusal_ids(layout.refusal_ids)
    asked = {name: model.encode([prompt.instruction for prompt in rows]) for name, rows in prompts.items()}
    total = sum(forward.n_tokens(model, rows) for rows in asked.values())
    with progress("refusal metric", total) as bar:
        measured = {
            name: _baseline(config, model, name, rows, asked[name], tokens["ids"], bar)
            for name, rows in prompts.items()
        }
    baseline = [row for rows, _ in measured.values() for row in rows]
    limits = {"train": config.select.max_train, "val": config.select.max_val}
    kept = kept_ids(baseline, limits, tokens["cutoff"])
    class_means.write_baseline(layout.baseline, baseline, kept)
    select = config.select
    did = {
        name: Asked.of([row["refusal_metric"] for row in rows], tokens["cutoff"], silent, len(kept[name]))
        for name, (rows, silent) in measured.items()
    }
    verdict = filter_verdict(did, select.min_train, select.min_val, select.max_refusal_rate)
    pinned, means = identity(config.model.source), {}
    passed = {name: _kept(prompts[f"{name}_train"], kept[f"{name}_train"]) for name in ("harmful", "harmless")}
    train = {name: model.encode(texts) for name, texts in passed.items() if texts}
    n_positions = len(model.post_instruction)
    with progress("resid_pre", sum(n_tokens_run(model, rows, n_positions) for rows in train.values())) as bar:
        for name, asked_again in train.items():
            moments, rows = _moments(config, model, name, asked_again, bar)
            means |= {f"{name}_mean": moments.mean, f"{name}_variance": moments.variance}
            if rows is not None:
                class_means.write_resid_pre(layout.resid_pre(name), rows, pinned)
    class_means.write_means(layout.activations, means, pinned, model.post_instruction)
    position_tokens = [chat.decode(model.tokenizer, [token]) for token in model.post_instruction]
    class_means.write_filter_summary(layout.filter_summary, verdict, prompts, kept, position_tokens, model.described())


def _kept(prompts: Sequence[Prompt], ids: Sequence[str]) -> list[str]:
    return [prompt.instruction for prompt in prompts if prompt.id in set(ids)]


def _baseline(
    config: Config, model: ChatModel, name: str, prompts: list[Prompt], tokens: Tokens, ids: list[int], bar: Bar
) -> tuple[list[dict[str, Any]], int]:
    """A row a prompt, and how many prompts the model would answer with nothing."""
    bar.step(f"refusal metric, {name}")
    logits = last_logits(model, tokens, config.engine.max_batch_tokens, bar)
    metric = refusal_metric(logits, chat.token_ids(ids)).tolist()
    rows = [{"set": name, "id": prompt.id, "refusal_metric": x} for prompt, x in zip(prompts, metric, strict=True)]
    return rows, decoding.n_silent(model, logits)


def _moments(config: Config, model: ChatModel, name: str, tokens: Tokens, bar: Bar) -> Any:
    bar.step(f"resid_pre, {name}")
    n_positions, max_tokens = len(model.post_instruction), config.engine.max_batch_tokens
    return resid_pre_moments(model, tokens, n_positions, max_tokens, bar, keep=config.activations.per_prompt)
