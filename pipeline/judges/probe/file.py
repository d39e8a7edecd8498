"""The fitted safety probe as one file: weights as safetensors, where they come from as metadata."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.probe_question import ProbeFormat
from pipeline.disk.shape import WRONG, as_written
from pipeline.disk.tensors import read_metadata, read_tensors, write_tensors
from pipeline.errors import UserError
from pipeline.names import PROBE

if TYPE_CHECKING:  # loading torch takes a second, and reports read the record alone
    from pipeline.judges.maths.linear_probe import LinearProbe

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "safety_probe.safetensors"
# What a model must share with the one that the probe was fitted on.
BELONGS = ("model", "tokenizer", "chat_template")
# Completions that agreement is measured on: all of them, and those that do not refuse.
KINDS = ("all", "answered")


@dataclass(frozen=True, eq=False)
class SafetyProbe:
    """A fitted probe. `facts` name the model it reads; `record` says what it was fitted on and how well it agrees."""

    linear: "LinearProbe"
    format: ProbeFormat
    facts: Mapping[str, str]
    record: Mapping[str, Any]

    def require(self, facts: Mapping[str, str]) -> None:
        """Raises UserError for a model (`identity` as `model`, and `ChatModel.facts`) it was not fitted on."""
        for key in BELONGS:
            if facts[key] != self.facts[key]:
                raise UserError(
                    f"the safety probe belongs to {key} '{self.facts[key]}', not '{facts[key]}': judge with that "
                    "model, or fit a probe for this one with `python -m pipeline fit-probe`"
                )


def write_probe(path: Path, probe: SafetyProbe) -> None:
    """The same probe gives the same bytes."""
    import torch

    tensors = {
        "weights": probe.linear.weights,
        "bias": torch.tensor([probe.linear.bias], dtype=torch.float64),
        "threshold": torch.tensor([probe.linear.threshold], dtype=torch.float64),
        "layers": torch.tensor(probe.linear.layers),
    }
    plain = {"format": asdict(probe.format), "record": dict(probe.record)}
    metadata = {key: json.dumps(value, sort_keys=True, allow_nan=False) for key, value in plain.items()}
    write_tensors(path, tensors, {**probe.facts, **metadata})


def read_probe(path: Path = SHIPPED, facts: Mapping[str, str] | None = None) -> SafetyProbe:
    """The probe of a file. Raises UserError when it is missing, damaged, or of another model than `facts` say."""
    from pipeline.judges.maths.linear_probe import LinearProbe

    if not path.is_file():
        raise UserError(f"{path} is missing: fit it with `python -m pipeline fit-probe`")
    tensors, metadata = read_tensors(path), read_metadata(path)
    try:
        form = ProbeFormat(**json.loads(metadata.pop("format")))
        record = json.loads(metadata.pop("record"))
        layers = tuple(tensors["layers"].tolist())
        linear = LinearProbe(layers, tensors["weights"], tensors["bias"].item(), tensors["threshold"].item())
        if not bool(linear.weights.isfinite().all()) or not math.isfinite(linear.bias + linear.threshold):
            raise ValueError("NaN or infinity")
        probe = SafetyProbe(linear, form, {key: metadata[key] for key in BELONGS}, record)
    except (*WRONG, RuntimeError) as error:
        raise UserError(f"{path} is no safety probe ({error}): fit it with `python -m pipeline fit-probe`") from None
    if facts is not None:
        probe.require(facts)
    return probe


def reliability(judge: str) -> dict[str, Any]:
    """Agreement of the shipped probe with references that it was not fitted on, by reference; of others nothing."""
    if judge != PROBE:
        return {}
    with as_written(SHIPPED):
        record = json.loads(read_metadata(SHIPPED)["record"])
        parts = {"people (cross-validated)": record["cross_validated"], **record["references"]}
        return {
            name: {kind: {key: found[kind][key] for key in ("n", "kappa", "auroc")} for kind in KINDS if found[kind]}
            for name, found in parts.items()
        }
