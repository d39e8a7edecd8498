"""Rows of a hub's data set at a commit, streamed: no more is fetched than is read."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import httpx2
from datasets import load_dataset
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import HfHubHTTPError

from pipeline.errors import UserError, first_line
from pipeline.progress import progress
from pipeline.sources import hub
from pipeline.sources.places import PlaceError, pinned

# What the library raises, and the file system below it: a lost connection is an OSError, a wrong split a ValueError.
ERRORS = (DatasetsError, HfHubHTTPError, httpx2.HTTPError, OSError, ValueError)


def stream(repo: str, revision: str, split: str, n_rows: int | None, otherwise: str) -> Iterator[Mapping[str, Any]]:
    """The first `n_rows` rows of a split (all: None), in order, at a commit of 40 hex digits.

    Raises UserError in one line, which ends with what to do `otherwise`.
    """
    try:
        hub.reach()
        data: Any = load_dataset(repo, revision=pinned(revision, repo), split=split, streaming=True)
        with progress(repo, n_rows or 0, unit="row") as advance:
            for row in islice(data, n_rows):
                advance(1)
                yield row
    except (PlaceError, *ERRORS) as error:
        reason = str(error) if isinstance(error, PlaceError) else first_line(error)
        raise UserError(f"{repo}@{revision[:12]} could not be read: {reason}. Try: {otherwise}") from None
