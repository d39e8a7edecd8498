"""export: the model with orthogonalised weights, and the proof that it equals live ablation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import card, files, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.schema import Config
from pipeline.maths.directions import Direction
from pipeline.maths.interventions import DirectionalAblation
from pipeline.model import chat, loading, surgery
from pipeline.model import equivalence as equal
from pipeline.model.forward import last_logits
from pipeline.model.intervene import intervene
from pipeline.stages.entry import run_stage
from pipeline.stages.models import family, open_model


def export(config: Config, layout: Layout) -> None:
    """A folder that plain `from_pretrained` loads; without a direction, only the reason why not."""
    direction = records.read_direction(layout.direction, layout.selection, identity(config.model.source))
    if direction is None:
        files.write_json(layout.equivalence, {"exported": False, "reason": files.read_json(layout.selection)["reason"]})
        return
    files.publish_folder(layout.export, lambda folder: _export(config, layout, direction, folder))


def _export(config: Config, layout: Layout, direction: Direction, folder: Path) -> None:
    ablation = DirectionalAblation(direction)
    model = open_model(config, dtype="float32")
    prompts = _prompts(config, layout, model)
    before = equal.max_cosine_per_layer(model, prompts, direction.r_hat)
    live = equal.behaviour(model, prompts, ablation, config.export.n_tokens, config.engine.max_batch_tokens)
    tied = surgery.untie(model)
    # The hooks stay exact on a model whose weights are edited, so the live side is asked before the edit.
    edited = surgery.orthogonalize_weights(model, direction)
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    reloaded = loading.load(config.model.name, folder, family(config.model.family), "float32", config.engine.device)
    exported = equal.behaviour(reloaded, prompts, None, config.export.n_tokens, config.engine.max_batch_tokens)
    contested = equal.contested(prompts, live, exported)
    ties = _ties(config, reloaded, ablation, [tokens for _, tokens in contested])
    difference = (live.logits - exported.logits).abs()
    result = {
        "exported": True,
        "dtype": "float32",
        "n_prompts": len(prompts),
        "n_tokens": config.export.n_tokens,
        "logit_difference_max": float(difference.max()),
        "logit_difference_mean": float(difference.mean()),
        "greedy_equal": len(prompts) - len(contested),
        "greedy_ties": sum(ties),
        "greedy_different": len(contested) - sum(ties),
        "max_cosine_before": before,
        "max_cosine_after": equal.max_cosine_per_layer(reloaded, prompts, direction.r_hat),
        "embedding_untied": tied,
        "edited_parameters": len(edited),
    }
    files.write_json(folder / layout.equivalence.name, result)
    card.write(folder / "README.md", _facts(config, layout, direction, result))


def _prompts(config: Config, layout: Layout, model: loading.ChatModel) -> list[list[int]]:
    """Harmful and harmless evaluation prompts in turn."""
    sets = [records.read_prompts(layout.prompts(f"{kind}_test")) for kind in ("harmful", "harmless")]
    mixed = [prompt.instruction for pair in zip(*sets, strict=False) for prompt in pair]
    return chat.encode(model.tokenizer, mixed[: config.export.n_prompts])


def _ties(
    config: Config,
    reloaded: loading.ChatModel,
    ablation: DirectionalAblation,
    contexts: Sequence[tuple[int, ...]],
) -> list[bool]:
    if not contexts:
        return []
    original = open_model(config, dtype="float32")
    with intervene(original, ablation):
        live = [last_logits(original, [tokens], config.engine.max_batch_tokens)[0] for tokens in contexts]
    edited = [last_logits(reloaded, [tokens], config.engine.max_batch_tokens)[0] for tokens in contexts]
    return [equal.is_tie(a, b) for a, b in zip(live, edited, strict=True)]


def _facts(config: Config, layout: Layout, direction: Direction, result: dict[str, Any]) -> card.Facts:
    selection = files.read_json(layout.selection)
    return card.Facts(
        title=config.model.title,
        base_model=config.model.base_model,
        licence=config.model.licence,
        pinned=identity(config.model.source),
        direction=direction,
        metric_before=selection["baselines"]["harmful"],
        metric_after=selection["chosen"]["bypass"],
        kl=selection["chosen"]["kl"],
        n_val=selection["n_val"]["harmful"],
        equivalence=result,
    )


if __name__ == "__main__":
    run_stage(export)
