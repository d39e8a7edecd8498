"""The model card that every export carries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.config.opening import ModelConfig
from pipeline.disk.files import replacing
from pipeline.display import LINE, code, markdown, plain

if TYPE_CHECKING:
    from pipeline.maths.directions import Direction


@dataclass(frozen=True)
class Measured:
    """How the export behaves; every number is measured."""

    metric_before: float
    metric_after: float
    kl: float
    n_val: int
    equivalence: Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What the card states. `measured` is None for weights that were written but not loaded."""

    title: str
    base_model: str
    licence: str
    pinned: str
    direction: "Direction"
    exact: bool
    n_edited: int
    n_writers: int
    measured: Measured | None


def facts(
    model: ModelConfig, pinned: str, direction: "Direction", coverage: Mapping[str, Any], measured: Measured | None
) -> Facts:
    """Of an export of a model; `coverage` counts the matrices that write to the residual stream."""
    return Facts(
        title=model.title,
        base_model=model.base_model,
        licence=model.licence,
        pinned=pinned,
        direction=direction,
        exact=model.family.exact,
        n_edited=coverage["n_edited"],
        n_writers=coverage["n_writers"],
        measured=measured,
    )


def measured(selection: Mapping[str, Any], equivalence: Mapping[str, Any]) -> Measured:
    """What selection.json says of the chosen direction, and the comparison with live ablation."""
    return Measured(
        metric_before=selection["baselines"]["harmful"],
        metric_after=selection["chosen"]["bypass"],
        kl=selection["chosen"]["kl"],
        n_val=selection["n_val"]["harmful"],
        equivalence=equivalence,
    )


def write(path: Path, facts: Facts) -> None:
    """Write the card as Markdown with the metadata block that model hubs read."""
    with replacing(path) as temporary:
        temporary.write_text(_text(facts), encoding="utf-8")


def _text(facts: Facts) -> str:
    return f"""---
base_model: {_scalar(facts.base_model)}
license: {_scalar(facts.licence)}
library_name: transformers
tags: [interpretability, refusal-direction, research-only]
---

# {markdown(facts.title)}, refusal direction removed from the weights

**Research only. This model's refusal of harmful requests has been disabled. Do not deploy it.**

It exists to check one statement: editing the weights so that nothing writes along one direction of
the residual stream does what removing that direction from the activations does (Arditi et
al. 2024, *Refusal in Language Models Is Mediated by a Single Direction*, section 4).

| | |
|---|---|
| base model | {markdown(facts.base_model, LINE)}, licence {markdown(facts.licence)} (its terms apply here too) |
| base weights | {code(facts.pinned)} |
| direction | difference in means at position {facts.direction.position}, layer {facts.direction.layer} |
| edit | {_edit(facts)} on {facts.n_edited} of {facts.n_writers} parameters that write to the residual stream \
(`coverage.json`); lm_head is not edited |
| compared with live ablation | {_statement(facts)} |
{_rows(facts.measured) if facts.measured else "| behaviour | not measured |"}

It follows harmful requests that the base model refuses. Whoever holds it is responsible for keeping
it from use outside research on safety training.
"""


def _scalar(text: str) -> str:
    """One line of YAML that is read as this text; in quotes only where it would be read as something else."""
    line = plain(text)
    try:
        same = yaml.safe_load(f"key: {line}") == {"key": line}
    except yaml.YAMLError:
        same = False
    return line if same else json.dumps(line, ensure_ascii=False)


def _rows(measured: Measured) -> str:
    equivalence = measured.equivalence
    matched = equivalence["greedy_equal"] + equivalence["greedy_ties"]
    cosine_before, cosine_after = max(equivalence["max_cosine_before"]), max(equivalence["max_cosine_after"])
    greedy = f"{matched} of {equivalence['n_prompts']} prompts x {equivalence['n_tokens']} tokens"
    return f"""\
| refusal metric (log-odds of a refusal's first token), mean of the {measured.n_val} harmful prompts that chose it |\
 {measured.metric_before:.2f} before, {measured.metric_after:.2f} after |
| KL(before, after) of next tokens, mean of the harmless prompts that chose it | {measured.kl:.3f} nats |
| largest logit difference to the live ablation | {equivalence["logit_difference_max"]:.2g} ({equivalence["dtype"]}; \
the ablation itself moves logits by up to {equivalence["effect_max"]:.2g}) |
| greedy answers equal to the live ablation | {greedy} |
| largest abs(cos) with the direction in any layer | {cosine_after:.1g} (before: {cosine_before:.2f}) |"""


def _edit(facts: Facts) -> str:
    return "W_out - r_hat r_hat^T W_out" if facts.exact else "a projection through the gain of the norm after W_out"


def _statement(facts: Facts) -> str:
    if facts.exact:
        return "equal, up to rounding"
    return (
        "**not identical**: this architecture normalises what it writes to the residual stream, so each edited "
        "write has no part along the direction, as under ablation, but its rest differs mainly by a positive factor "
        "per token"
    )
