"""YAML that is plain values: no tags, no great depth or size, whatever its aliases would make of it."""

from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.errors import UserError, first_line

DEEPEST, NODES = 40, 1_000_000  # levels, and values with every alias written out
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class _Open:
    """A collection that has begun; `before` is the size of what came before it."""

    anchor: str | None
    before: int
    is_mapping: bool
    keys: set[str] = field(default_factory=set)
    at_key: bool = True

    def takes(self, event: yaml.Event, where: str) -> None:
        """Count the next node in. Raises UserError for a key that was there."""
        if self.is_mapping and self.at_key and isinstance(event, yaml.ScalarEvent):
            if event.value in self.keys:
                raise UserError(
                    f"{where}:{_line(event)} has key {event.value[:60]!r} twice: keep the one that is meant"
                )
            self.keys.add(event.value)
        self.at_key = not self.at_key


def require_plain_yaml(text: str, where: str) -> None:
    """Raises UserError for what is no YAML, and for YAML that is more than values: tags, great depth or size.

    The size is that with every alias written out, and is found without writing them out.
    """
    sizes: dict[str, int] = {}
    stack: list[_Open] = []
    size = 0
    try:
        for event in yaml.parse(text, Loader=LOADER):
            anchor = getattr(event, "anchor", None)
            if getattr(event, "tag", None) is not None:
                raise UserError(f"{where}:{_line(event)} has the tag {event.tag!r}: write a plain value")
            if stack and isinstance(event, yaml.NodeEvent):
                stack[-1].takes(event, where)
            if isinstance(event, yaml.AliasEvent):
                size += sizes.get(anchor or "", NODES + 1)  # an anchor that is still open holds itself
            elif isinstance(event, yaml.CollectionStartEvent):
                stack.append(_Open(anchor, size, isinstance(event, yaml.MappingStartEvent)))
                size += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                done = stack.pop()
                sizes |= {done.anchor: size - done.before} if done.anchor else {}
            elif isinstance(event, yaml.ScalarEvent):
                size += 1
                sizes |= {anchor: 1} if anchor else {}
            if len(stack) > DEEPEST or size > NODES:
                what = f"nested more than {DEEPEST} deep" if len(stack) > DEEPEST else f"more than {NODES} values"
                raise UserError(f"{where}:{_line(event)}: {what}, aliases written out: write less")
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not YAML ({_reason(error)})") from None


def parse_yaml(text: str, where: str) -> Any:
    """The values of plain YAML. Raises UserError, as `require_plain_yaml` does."""
    require_plain_yaml(text, where)
    try:
        return yaml.load(text, LOADER)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not YAML ({_reason(error)})") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # a date that is none, a giant number
        raise UserError(f"{where} holds a value that cannot be read ({error})") from None


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1


def _reason(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"{problem or first_line(error)}{f', line {mark.line + 1}' if mark else ''}"
