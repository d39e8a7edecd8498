"""Unfinished work, under a name made of all that makes it: the same work goes on, any other begins anew.

Weights that are being rewritten are too large to be kept as values of steps: they have their own list of finished files
(`disk.checkpoint`), and only the name of their folder from here.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pipeline.disk import files
from pipeline.disk.steps import Steps


def unfinished(place: Callable[[str], Path], kind: str, *made_by: Any) -> Steps:
    """The steps that an interrupted run left of some work; none where nothing was left, or of other work.

    `place`: the file of a name (`Layout.partial`); `kind`: of work, with which the name begins; `made_by`: see `key`.
    """
    return Steps(place(f"{kind}-{key(*made_by)}"))


def key(*made_by: Any) -> str:
    """Hash of all that a result depends on: plain values, settings and interventions, and files by their bytes.

    Raises UserError for a file that cannot be read.
    """
    # As ASCII, since an answer may hold half of a surrogate pair, which UTF-8 has not.
    return hashlib.sha256(json.dumps(_plain(made_by), sort_keys=True).encode()).hexdigest()[:24]


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return files.file_hash(value)
    if is_dataclass(value):
        return [type(value).__name__, {field.name: _plain(getattr(value, field.name)) for field in fields(value)}]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value  # of a tensor
