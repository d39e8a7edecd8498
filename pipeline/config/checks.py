"""What the parts of the schema share: choices, and how a value out of range is named."""

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

DTYPES = ("float32", "bfloat16", "float16")
AUTO = "auto"  # a dtype that stage `engine` settles
LARGEST_SIZE, LARGEST_NUMBER = 10**9, 2**53  # of what is counted, and of any number: a float holds every integer to it
REFERENCE = re.compile(r"\$\{(\w[\w.\[\]-]*)\}")  # to another value, by its key
MOST_REFERENCES = 100


def check(holds: bool, key: str, value: object, remedy: str) -> None:
    """Raises ValueError, naming the key, its value and what to do, unless the value holds."""
    if not holds:
        raise ValueError(f"{key} is {value!r}: {remedy}")


def leaves(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of every value in nested mappings and lists; a mapping's keys are values as well."""
    if isinstance(values, Mapping):
        for name, value in cast(Mapping[Any, Any], values).items():
            yield f"{key}.(key)" if key else "(key)", name
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, Sequence) and not isinstance(values, str | bytes):
        for index, value in enumerate(cast(Sequence[Any], values)):
            yield from leaves(value, f"{key}.{index}" if key else str(index))
    else:
        yield key, values


def require_numbers(values: Any) -> None:
    """Raises ValueError with the key of a number that nothing can be computed with: NaN, infinity, a giant one."""
    for key, value in leaves(values):
        if isinstance(value, float):
            check(math.isfinite(value) and abs(value) <= LARGEST_NUMBER, key, value, "use a finite number")
        elif isinstance(value, int):
            largest = LARGEST_NUMBER if key.rpartition(".")[2] == "seed" else LARGEST_SIZE
            if abs(value) > largest:  # not repeated: it may have thousands of digits
                raise ValueError(f"{key} is beyond {largest}: use a smaller number")


def require_not_giant(values: Any) -> None:
    """Raises ValueError with the key of a whole number that no float holds: it cannot even be read as one."""
    for key, value in leaves(values):
        if isinstance(value, int) and abs(value) > sys.float_info.max:  # not repeated: hundreds of digits
            raise ValueError(f"{key} is beyond {LARGEST_NUMBER}: use a smaller number")


def require_no_resolvers(values: Any) -> None:
    """Raises ValueError with the key of a `${...}` that is no reference to another value, such as `${oc.env:NAME}`.

    What it stands for would be written into results. Neither it nor its value is repeated.
    """
    for key, value in leaves(values):
        if isinstance(value, str) and "${" in REFERENCE.sub("", value):
            raise ValueError(
                f"{key} asks for a value from outside by ${{...}}: write the value itself, or ${{key}} of another one"
            )


def require_short_references(values: Any) -> None:
    """Raises ValueError with the key of a reference that leads on to another, as such chains can grow without bound."""
    references = [(key, REFERENCE.findall(value)) for key, value in leaves(values) if isinstance(value, str)]
    references = [
        (key, [target.replace("[", ".").replace("]", "") for target in targets])
        for key, targets in references
        if targets
    ]
    if sum(len(targets) for _, targets in references) > MOST_REFERENCES:
        raise ValueError(
            f"{references[0][0]} and others hold more than {MOST_REFERENCES} references: write their values"
        )
    for key, targets in references:
        for target in targets:
            if any(
                f"{target}.".startswith(f"{other}.") or f"{other}.".startswith(f"{target}.") for other, _ in references
            ):
                raise ValueError(f"{key} refers to {target}, which refers on: write its value")


def require_no_references(values: Any) -> None:
    """Raises ValueError with the key of a `${...}` in values that are settled."""
    for key, value in leaves(values):
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"{key} holds ${{...}}: write the value itself")
