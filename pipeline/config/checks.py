"""What the parts of the schema share: choices, and how a value out of range is named."""

DTYPES = ("float32", "bfloat16", "float16")
AUTO = "auto"  # a dtype that stage `engine` settles


def check(holds: bool, key: str, value: object, remedy: str) -> None:
    """Raises ValueError, naming the key, its value and what to do, unless the value holds."""
    if not holds:
        raise ValueError(f"{key} is {value!r}: {remedy}")
