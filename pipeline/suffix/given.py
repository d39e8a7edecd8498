"""The suffixes that are analysed, from wherever the configuration has them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.config.suffix import SuffixConfig
from pipeline.disk.files import file_hash
from pipeline.errors import UserError
from pipeline.sources import Artefact
from pipeline.suffix.files import grouped, read_found, read_list
from pipeline.suffix.group import Group


def given_suffixes(
    settings: SuffixConfig, searched: Path, facts: Mapping[str, str], fetched: Callable[[Artefact], Path]
) -> list[Group]:
    """The suffixes, those of each objective together.

    `searched`: where a search leaves them; `facts` pin the model that they have to be for. Raises UserError for a
    file of other bytes than the configuration names, or of another model.
    """
    if settings.texts:
        return _given([text.strip() for text in settings.texts])
    if settings.places:
        return _given(read_list(fetched(Artefact(settings.file, settings.sha256, tuple(settings.places)))))
    path = searched if settings.source == "found" else Path(settings.file).expanduser()
    if not path.exists():
        remedy = "run `python -m pipeline search-suffix`" if settings.source == "found" else "mend suffix.file"
        raise UserError(f"{path} does not exist: {remedy}")
    if (actual := file_hash(path)) != settings.sha256:
        raise UserError(f"{path} has sha256 {actual}, not suffix.sha256={settings.sha256}: give the one it has")
    if settings.source == "given":
        return _given(read_list(path))
    return grouped(read_found(path, facts))


def _given(texts: Sequence[str]) -> list[Group]:
    return [Group("given", tuple(texts))]
