"""Seeded damage to texts, and a search for what a reader does not survive."""

import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.errors import UserError

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(2**32))
N = int(os.environ.get("FUZZ_N") or 5000)
# What readers have stumbled over: ends of text, numbers that are none, what other tools leave, syntax of every kind.
PIECES = (
    *("", "\0", "\n", "\r\n", "\t", "\ufeff", "\u2028", "\x1b[31m", "é", "\U0001f600", "\\ud800", "\\u0000"),
    *('"', "'", "\\", ",", ";", ":", "=", "#", "-", "- ", "? ", "|", ">", "&a ", "*a", "!!set ", "%", "@", "`", "~"),
    *("[", "]", "{", "}", "(", ")", "[[", "{{", "${", "${seed}", "${oc.env:HOME}", "<<: ", "---\n", "...\n"),
    *(
        "0",
        "-1",
        "1.5",
        "1e400",
        "nan",
        ".nan",
        "inf",
        "-Infinity",
        "null",
        "true",
        "2024-99-99",
        "0x",
        "1_0",
        "9" * 400,
    ),
    *("<<<<<<< HEAD\n", "version https://git-lfs", "../", "/", "a b", "models", "stages", "overrides", "__proto__"),
)


@dataclass(frozen=True)
class Crash:
    """An input, and what came out that is no UserError."""

    given: bytes
    error: BaseException

    def __str__(self) -> str:
        return f"{type(self.error).__name__}: {self.error} from {self.given[:2000]!r}"


def mutated(seed: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """A text with one to four pieces of damage."""
    data = bytearray(seed)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(data) + 1)
        end = min(len(data), start + draw.choice((0, 1, 2, 8, 40)))
        match draw.randrange(8):
            case 0:
                del data[start:end]
            case 1:
                data[start:end] = data[start:end] * draw.choice((2, 3, 30))
            case 2:
                del data[start:]
            case 3:
                data[start:end] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 3)))
            case 4:
                other = draw.choice(others)
                begin = draw.randrange(len(other) + 1)
                data[start:end] = other[begin : begin + draw.choice((5, 50))]
            case 5:
                lines = bytes(data).split(b"\n")
                draw.shuffle(lines)
                data = bytearray(b"\n".join(lines))
            case _:
                data[start:end] = draw.choice(PIECES).encode()
    return bytes(data)


def crashes(read: Callable[[bytes], object], seeds: Sequence[bytes], n: int = N, seed: int = SEED) -> list[Crash]:
    """The first few of `n` mutated inputs that end in anything but a value or a UserError of one printable line."""
    print(f"FUZZ_SEED={seed} FUZZ_N={n}", file=sys.stderr)
    draw, found = random.Random(seed), []
    for _ in range(n):
        given = mutated(draw.choice(seeds), seeds, draw)
        try:
            read(given)
        except UserError as error:
            if not str(error).isprintable() or not str(error):
                found.append(Crash(given, error))
        except Exception as error:  # what is looked for
            found.append(Crash(given, error))
        if len(found) == 3:
            break
    return found
