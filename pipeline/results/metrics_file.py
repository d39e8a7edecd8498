"""`metrics.json`: written and read here and nowhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.disk import files
from pipeline.disk.shape import AGAIN, made_again
from pipeline.errors import UserError
from pipeline.maths.evaluation import Agreement
from pipeline.maths.labels import Label, Treatment
from pipeline.results.choosing import Selection
from pipeline.results.effects import Export, LossDifference
from pipeline.results.metrics import VERSION, Metrics

SPARSE = (Export, LossDifference, Selection)  # what they lack is left out of the file


def as_record(value: Any) -> Any:
    """A result as JSON has it."""
    if isinstance(value, Label | Treatment):
        return str(value)
    if isinstance(value, Agreement):
        only = {f"only_{judge}": count for judge, count in value.only.items()}
        return {"equal": as_record(value.equal), "kappa": as_record(value.kappa), **only}
    if is_dataclass(value):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): as_record(item) for key, item in cast(Mapping[Any, Any], value).items()}
    return [as_record(item) for item in cast(Sequence[Any], value)] if isinstance(value, list | tuple) else value


def _fields(value: Any) -> dict[str, Any]:
    items = {field.name: as_record(getattr(value, field.name)) for field in fields(value)}
    if not isinstance(value, SPARSE):
        return items
    kept = {field.name for field in fields(value) if field.default is not None}
    return {name: item for name, item in items.items() if item is not None or name in kept}


def of_values(values: Mapping[str, Any]) -> Metrics:
    """Typed, from values that are or from records that were read. Raises ValueError for what does not fit."""
    return _adapter().validate_python(values)


def of_record(record: Any) -> Metrics:
    """The inverse of `as_record`. Raises ValueError for other keys, types or controls, or another version."""
    values = cast(dict[str, Any], record) if isinstance(record, dict) else {}
    version: Any = values.get("version")
    if version != VERSION:
        raise ValueError(f"it is of version {version}, this project reads {VERSION}")
    metrics = of_values(_gathered(values))
    if as_record(metrics) != record:
        raise ValueError("it has keys that nothing reads")
    found = metrics.test_scores
    scored = (found.bypass, found.subtraction, found.induce, found.kl) if found else ()
    if any(row.controls.keys() != metrics.controls.keys() for row in scored):
        raise ValueError("it has scores of other controls than it names")
    return metrics


def _gathered(record: Mapping[str, Any]) -> dict[str, Any]:
    """As the types have it: counts of one judge alone together."""
    pairs = {
        pair: {
            name: {
                **{key: row[key] for key in ("equal", "kappa")},
                "only": {key.removeprefix("only_"): row[key] for key in row if key.startswith("only_")},
            }
            for name, row in rows.items()
        }
        for pair, rows in record["agreement"].items()
    }
    return {**record, "agreement": pairs}


@cache
def _adapter() -> TypeAdapter[Metrics]:
    return TypeAdapter(Metrics)


def write_metrics(path: Path, metrics: Metrics) -> None:
    """As JSON, sorted by key."""
    files.write_json(path, as_record(metrics))


def read_metrics(path: Path) -> Metrics:
    """What `write_metrics` wrote. Raises UserError for anything else."""
    with made_again():
        record = files.read_object(path)
    try:
        return of_record(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    raise UserError(f"{path} is not what this version of the project writes ({reason}): {AGAIN}")
