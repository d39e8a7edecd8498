"""Hydra overrides: each is understood by itself, so that what is wrong is named."""

from collections.abc import Sequence

from pipeline.config.checks import require_no_resolvers
from pipeline.config.labels import shown
from pipeline.config.reading import HYDRA
from pipeline.errors import UserError

LONGEST, DEEPEST = 10_000, 20  # characters, and brackets in each other
LONGEST_KEY = 200  # characters: Hydra looks for a file so called, and no disk takes a name of 256
OPENING, CLOSING = "[{(", "]})"


def require_overrides(overrides: Sequence[str]) -> None:
    """Raises UserError naming the override that is not one value for one key, and how to write it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for text in overrides:
        _require_bounded(text)
        key = text.partition("=")[0].strip()
        try:
            require_no_resolvers({key: text})
        except ValueError as error:
            raise UserError(f"override {error}") from None
        try:
            override = parser.parse_override(text)
            name = "" if override.is_sweep_override() else override.key_or_group
        except (HydraException, RecursionError, ValueError):
            name = ""
        if not name:
            raise UserError(
                f"override {shown(text)} is not understood: write key=value, and a value that has = , or brackets in "
                "quotes, such as \"key='a=b'\""
            )
        if len(name) > LONGEST_KEY:
            raise UserError(f"override {shown(text)} has a key of {len(name)} characters: no key in conf/ is so long")
        if name.partition(".")[0].partition("/")[0] == HYDRA:
            raise UserError(f"override {shown(text)} is of Hydra, not of a run: leave it out")


def _require_bounded(text: str) -> None:
    depth = deepest = 0
    for letter in text:
        depth += (letter in OPENING) - (letter in CLOSING)
        deepest = max(deepest, depth)
    if len(text) > LONGEST or deepest > DEEPEST:
        raise UserError(f"override {shown(text)} is too long or nested too deep: write a file in conf/ instead")
