"""Greedy or drawn: how the answers of `completions` and `further` are made."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.config.sampling import KEYS, OWN, numbers
from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.maths.sampling import Draws, Sampling, uniforms
from pipeline.model.loading.loading import ChatModel


def draws(config: Config, model: ChatModel, ids: Sequence[str]) -> Draws | None:
    """By which the answers to prompts of these ids are drawn; None: they are greedy."""
    sampling = _sampling(config, model)
    settings = config.generate
    return sampling and Draws(sampling, uniforms(config.seed, settings.draw, ids, settings.max_new_tokens))


def record(config: Config, model: ChatModel) -> dict[str, Any]:
    """What the run's results say of it."""
    sampling = _sampling(config, model)
    if sampling is None:
        return {"how": "greedy", **dict.fromkeys((*KEYS, "draw"))}
    return {"how": "sampled", **asdict(sampling), "draw": config.generate.draw}


def _sampling(config: Config, model: ChatModel) -> Sampling | None:
    """Raises UserError where it shall be the model's own and none is known."""
    settings = config.generate.sampling
    if settings != OWN:
        return settings and Sampling(**settings)
    if config.model.sampling:
        return Sampling(**asdict(config.model.sampling))
    try:
        return Sampling(**numbers({key: model.shipped[key] for key in KEYS if key in model.shipped}, "sampling"))
    except ValueError:
        raise UserError(
            f"generate.sampling is {OWN}, and no temperature above 0 ships with model '{model.name}': write `sampling: "
            f"{{temperature: 0.7}}` into conf/model/{model.name}.yaml, or such numbers instead of {OWN}"
        ) from None
