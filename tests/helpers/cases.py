"""Cases: inputs that went wrong somewhere, and what a user sees instead. `docs/what-is-refused.md` lists them."""

import contextlib
import io
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.errors import UserError


@dataclass(frozen=True)
class Case:
    """One input: what it is, and what a user sees."""

    name: str
    given: str
    sees: str
    check: Callable[..., None]


@dataclass
class Cases:
    """The cases of one kind. Each is a function of the fixtures `tmp_path` and `monkeypatch`, by name."""

    kind: str
    rows: list[Case] = field(default_factory=list)

    def __call__(self, name: str, given: str, sees: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Add the decorated function as case `name`."""
        assert name not in {row.name for row in self.rows}, name

        def add(check: Callable[..., None]) -> Callable[..., None]:
            self.rows.append(Case(name, given, sees, check))
            return check

        return add

    def test(self) -> Any:
        """The test of the module that holds these cases: `test_cases = cases.test()`, at its end."""

        @pytest.mark.parametrize("case", self.rows, ids=[row.name for row in self.rows])
        def run(case: Case, tmp_path: Any, monkeypatch: Any) -> None:
            have = {"tmp_path": tmp_path, "monkeypatch": monkeypatch}
            wanted = case.check.__code__.co_varnames[: case.check.__code__.co_argcount]
            case.check(**{name: have[name] for name in wanted})

        return run


@contextlib.contextmanager
def refused(pattern: str) -> Iterator[None]:
    """The block ends in a UserError of one printable line that `pattern` is found in; nothing else will do."""
    with pytest.raises(UserError) as caught:
        yield
    one_line(f"error: {caught.value}", pattern)


def one_line(text: str, pattern: str) -> str:
    """`text` holds exactly one line, which begins `error:`, is printable, and has `pattern`."""
    lines = [line for line in text.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, text
    assert "Traceback" not in text, text
    assert lines[0].isprintable(), repr(lines[0])
    assert re.search(pattern, lines[0]), lines[0]
    return lines[0]


def fails(result: subprocess.CompletedProcess, pattern: str) -> str:
    """A command that ended with status 1 and one such line on standard error."""
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stdout + result.stderr, result.stderr
    return one_line(result.stderr, pattern)


def quietly(call: Callable[[], Any]) -> str:
    """What a call prints on standard error."""
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        call()
    return printed.getvalue()
