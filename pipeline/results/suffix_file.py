"""`suffix.json`: written and read here and nowhere else."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.disk import files
from pipeline.disk.shape import read_record
from pipeline.results.suffix import Suffix


@cache
def _adapter() -> TypeAdapter[Suffix]:
    return TypeAdapter(Suffix)


def write_suffix(path: Path, suffix: Suffix) -> None:
    """As JSON, sorted by key."""
    files.write_json(path, asdict(suffix))


def read_suffix(path: Path) -> Suffix:
    """What `write_suffix` wrote. Raises UserError for anything else."""
    return _adapter().validate_python(read_record(path, Suffix))
