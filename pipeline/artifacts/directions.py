"""Directions beside the chosen one, and what they were found from: controls, estimators, rows at the chosen place."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.disk import shape, tensors
from pipeline.maths.selection import Place
from pipeline.names import MEAN_DIFFERENCE

if TYPE_CHECKING:  # loading torch takes a second, and some stages need none of these
    from torch import Tensor

    from pipeline.maths.directions import Direction
    from pipeline.maths.estimators import Finding
    from pipeline.maths.interventions import Intervention


PLACES = "places"  # metadata: [position, layer] of each tensor, by name


def write_directions(path: Path, directions: Mapping[str, "Direction"], model: str) -> None:
    """Raw directions by name."""
    places = {name: [direction.position, direction.layer] for name, direction in directions.items()}
    vectors = {name: direction.vector for name, direction in directions.items()}
    tensors.write_tensors(path, vectors, {"model": model, PLACES: json.dumps(places)})


def read_directions(path: Path, model: str) -> dict[str, "Direction"]:
    """Directions by name; none when no direction was chosen."""
    from pipeline.maths.directions import Direction

    stored, metadata = tensors.read_tensors(path, model=model), tensors.read_metadata(path)
    with shape.as_written(path):
        places = shape.held(dict[str, list[int]], json.loads(metadata[PLACES]), str(path))
        directions = {name: Direction(stored[name], layer, position) for name, (position, layer) in places.items()}
    tensors.require(path, stored.keys() == places.keys(), "does not hold a direction for each of its places")
    for vector in stored.values():
        tensors.require_direction(path, vector)
    return directions


def write_rows(path: Path, rows: Mapping[str, "Tensor"], model: str, place: Place | None) -> None:
    """`resid_pre` per train prompt of each class at one place; no rows where no direction was chosen."""
    metadata = {"model": model, "axes": "prompt d_model", PLACES: json.dumps(place)}
    tensors.write_tensors(path, rows, metadata)


def read_rows(path: Path, model: str, place: Place) -> dict[str, "Tensor"]:
    """Rows by class. Raises UserError when they are another model's, of another place, or hold NaN or infinity."""
    rows = tensors.read_tensors(path, model=model, axes="prompt d_model", **{PLACES: json.dumps(place)})
    tensors.require(path, rows.keys() == {"harmful", "harmless"}, "does not hold rows of both classes")
    widths = {tuple(tensor.shape[1:]) for tensor in rows.values()}
    sound = all(tensor.ndim == 2 and tensor.is_floating_point() and len(tensor) for tensor in rows.values())
    tensors.require(path, sound and len(widths) == 1, "holds rows of another form")
    tensors.require(path, all(bool(tensor.isfinite().all()) for tensor in rows.values()), "holds NaN or infinity")
    return rows


def write_findings(path: Path, findings: "Mapping[str, tuple[Place, Finding]]", model: str) -> None:
    """Each estimator's chosen finding: `<name>.r`, and `<name>.readout` of an affine edit."""
    stored = {f"{name}.r": finding.r for name, (_, finding) in findings.items()}
    stored |= {f"{name}.readout": f.readout for name, (_, f) in findings.items() if f.readout is not None}
    facts = {name: [*place, finding.low, finding.high] for name, (place, finding) in findings.items()}
    tensors.write_tensors(path, stored, {"model": model, "findings": json.dumps(facts)})


def read_findings(path: Path, model: str) -> "dict[str, tuple[Place, Finding]]":
    """The inverse of `write_findings`."""
    from pipeline.maths.estimators import Finding

    stored, metadata = tensors.read_tensors(path, model=model), tensors.read_metadata(path)
    for vector in stored.values():
        tensors.require_direction(path, vector)
    with shape.as_written(path):
        facts = json.loads(metadata["findings"])
        findings = {
            name: ((position, layer), Finding(stored[f"{name}.r"], stored.get(f"{name}.readout"), low, high))
            for name, (position, layer, low, high) in facts.items()
        }
    named = {f"{name}.{part}" for name in facts for part in ("r", "readout")}
    tensors.require(path, stored.keys() <= named, "holds tensors of no estimator that it names")
    return findings


def read_sources(
    layout: Layout, model: str, coefficient: float, estimators: bool = True
) -> "dict[str, dict[str, Intervention]]":
    """Interventions by source: the chosen direction (""), every control, estimators that found something else.

    None at all when no direction was chosen.
    """
    chosen = records.read_direction(layout.direction, layout.selection, model)
    if chosen is None:
        return {}
    from pipeline.maths.experiment import interventions

    directions = {"": chosen, **read_directions(layout.controls, model)}
    _require_width(layout.controls, chosen, [direction.vector for direction in directions.values()])
    sources = {name: interventions(direction, coefficient) for name, direction in directions.items()}
    findings = read_findings(layout.findings, model) if estimators else {}
    vectors = [vector for _, finding in findings.values() for vector in (finding.r, finding.readout)]
    _require_width(layout.findings, chosen, [vector for vector in vectors if vector is not None])
    for name, ((position, layer), finding) in findings.items():
        if not (name == MEAN_DIFFERENCE and (position, layer) == (chosen.position, chosen.layer)):
            sources[name] = finding.interventions(layer, position, coefficient)
    return sources


def _require_width(path: Path, chosen: "Direction", vectors: "Sequence[Tensor]") -> None:
    widths = {len(vector) for vector in vectors} | {len(chosen.vector)}
    tensors.require(path, len(widths) == 1, "holds directions of another width than the chosen one")
