"""Progress bars of the libraries, shown as ours."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

from transformers import modeling_gguf_pytorch_utils
from transformers.utils.logging import set_tqdm_hook

from pipeline.model.ticking import Advance, silent

# (step, work in all, unit) -> what is to be told of the work just done.
Watch = Callable[[str, float, str], AbstractContextManager[Advance]]


def unwatched(step: str, total: float, unit: str) -> AbstractContextManager[Advance]:
    """Nobody watches."""
    return nullcontext(silent)


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
