"""What the libraries say, said as ours: their progress bars, and their errors."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Any
from unittest.mock import patch

from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    modeling_gguf_pytorch_utils,
)
from transformers.utils.logging import set_tqdm_hook

from pipeline.errors import UserError, first_line, lacks_memory
from pipeline.model.passes.ticking import Advance, silent

# (step, work in all, unit) -> what is to be told of the work just done.
Watch = Callable[[str, float, str], AbstractContextManager[Advance]]


def unwatched(step: str, total: float, unit: str) -> AbstractContextManager[Advance]:
    """Nobody watches."""
    return nullcontext(silent)


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Whatever goes wrong in a library over a damaged file is a UserError that begins with `what`."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if lacks_memory(error):  # no fault of the file
            raise
        # A library in Rust that panics raises a class of its own, which is no Exception and cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(f"{what}: {first_line(error)}") from None


@contextmanager
def python_alone() -> Iterator[None]:
    """What libraries in other languages write on standard error, such as the trace of a panic, is dropped meanwhile.

    What Python writes there still comes through.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        with (
            open(
                kept, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace", closefd=False
            ) as stream,
            redirect_stderr(stream) if sys.stderr is sys.__stderr__ else nullcontext(),
        ):
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def config_of(folder: Path) -> PreTrainedConfig:
    """The configuration of a model's folder. Raises UserError when it does not load."""
    with library_errors(f"{folder / 'config.json'} does not load"):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def tokenizer_of(what: str, folder: Path, gguf: str = "") -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, or in its GGUF file. Raises UserError when it does not load or encodes nothing."""
    source = {"gguf_file": gguf} if gguf else {}
    with library_errors(what), python_alone():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **source)
        tokenizer("a")  # some settings are first read here
        return tokenizer


@contextmanager
def shown(watch: Watch, step: str, reading: str = "") -> Iterator[None]:
    """While a library loads tensors, they are counted as a step of ours in place of its own bar.

    `reading`: what making tensors of a GGUF file is called, which comes before.
    """

    def counted(items: Iterable[Any], name: str) -> Iterator[Any]:
        rows = list(items)
        with watch(name, float(len(rows)), "tensor") as advance:
            for row in rows:
                yield row
                advance(1.0)

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return counted(args[0], step) if args else factory(*args, **{**kwargs, "disable": True})

    def tqdm(items: Iterable[Any], *_args: Any, **_kwargs: Any) -> Iterator[Any]:
        return counted(items, reading)

    before = set_tqdm_hook(hook)
    try:
        with patch.object(modeling_gguf_pytorch_utils, "tqdm", tqdm) if reading else nullcontext():
            yield
    finally:
        set_tqdm_hook(before)
