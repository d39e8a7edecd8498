"""activations: keep the prompts the model refuses or answers, and take the means of resid_pre."""

from collections.abc import Mapping, Sequence
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


def activations(config: Config, layout: Layout) -> None:
    """Refusal metric of every train and val prompt, the filter, and the means of both classes."""
    model = open_model(config)
    prompts = {name: records.read_prompts(layout.prompts(name)) for name in FITTED_SETS}
    tokens = records.read_refusal_ids(layout.refusal_ids)
    asked = {name: model.encode([prompt.instruction for prompt in rows]) for name, rows in prompts.items()}
    total = sum(forward.n_tokens(model, rows) for rows in asked.values())
    with progress("refusal metric", total) as bar:
        found = {
            name: _baseline(config, model, name, rows, asked[name], tokens["ids"], bar)
            for name, rows in prompts.items()
        }
    baseline = [row for rows, _ in found.values() for row in rows]
    limits = {"train": config.select.max_train, "val": config.select.max_val}
    kept = kept_ids(baseline, limits, tokens["cutoff"])
    class_means.write_baseline(layout.baseline, baseline, kept)
    did = {
        name: Asked(len(rows), sum(row["refusal_metric"] > tokens["cutoff"] for row in rows), silent, len(kept[name]))
        for name, (rows, silent) in found.items()
    }
    select = config.select
    verdict = filter_verdict(did, select.min_train, select.min_val, select.max_refusal_rate)
    pinned = identity(config.model.source)
    means = {}
    texts = {name: _kept(prompts, kept, f"{name}_train") for name in ("harmful", "harmless")}
    train = {name: model.encode(rows) for name, rows in texts.items() if rows}
    n_positions = len(model.post_instruction)
    with progress("resid_pre", sum(n_tokens_run(model, rows, n_positions) for rows in train.values())) as bar:
        for name, asked_again in train.items():
            moments, rows = _moments(config, model, name, asked_again, bar)
            means |= {f"{name}_mean": moments.mean, f"{name}_variance": moments.variance}
            if rows is not None:
                class_means.write_resid_pre(layout.resid_pre(name), rows, pinned)
    class_means.write_means(layout.activations, means, pinned, model.post_instruction)
    position_tokens = [chat.decode(model.tokenizer, [token]) for token in model.post_instruction]
    class_means.write_filter_summary(layout.filter_summary, verdict, prompts, kept, position_tokens, model.facts())


def _kept(prompts: Mapping[str, Sequence[Any]], kept: Mapping[str, Sequence[str]], name: str) -> list[str]:
    return [prompt.instruction for prompt in prompts[name] if prompt.id in set(kept[name])]


def _baseline(
    config: Config,
    model: ChatModel,
    name: str,
    prompts: Sequence[Any],
    tokens: Sequence[Sequence[int]],
    refusal_tokens: Sequence[int],
    bar: Bar,
) -> tuple[list[dict[str, Any]], int]:
    """A row a prompt, and how many prompts the model would answer with nothing."""
    bar.step(f"refusal metric, {name}")
    logits = last_logits(model, tokens, config.engine.max_batch_tokens, bar)
    metric = refusal_metric(logits, chat.token_ids(refusal_tokens)).tolist()
    stops = decoding.stop_tokens(model)
    silent = sum(int(token) in stops for token in logits.argmax(dim=-1))
    return [
        {"set": name, "id": prompt.id, "refusal_metric": value} for prompt, value in zip(prompts, metric, strict=True)
    ], silent


def _moments(config: Config, model: ChatModel, name: str, tokens: Sequence[Sequence[int]], bar: Bar) -> Any:
    bar.step(f"resid_pre, {name}")
    n_positions, max_tokens = len(model.post_instruction), config.engine.max_batch_tokens
    return resid_pre_moments(model, tokens, n_positions, max_tokens, bar, keep=config.activations.per_prompt)
