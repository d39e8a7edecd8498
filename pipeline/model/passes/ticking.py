"""Work counted while the model runs: every block that ends is a part of its forward pass.

Work is counted in tokens through the whole model: a token that half the blocks read is half a token.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

Advance = Callable[[float], None]


def silent(tokens: float) -> None:
    """Nobody counts."""


def n_tokens(prompts: Iterable[Sequence[int]]) -> float:
    """Tokens of prompts that are each run once and whole."""
    return float(sum(map(len, prompts)))


@contextmanager
def exactly(total: float, advance: Advance) -> Iterator[Advance]:
    """Hand on what is done of work worth `total`: never more, what is missing at the end, nothing if it fails.

    Work that fails, since memory runs out, is done again.
    """
    spent = 0.0

    def step(tokens: float) -> None:
        nonlocal spent
        tokens = min(tokens, total - spent)
        spent += tokens
        if tokens:
            advance(tokens)

    try:
        yield step
    except BaseException:
        if spent:
            advance(-spent)
        raise
    step(total - spent)


@contextmanager
def ticking(blocks: Iterable[nn.Module], total: float, advance: Advance, parts: int = 0) -> Iterator[Advance]:
    """One forward pass, worth `total` tokens, whose blocks each advance by an equal share when they end.

    `parts`: so many shares more, for what follows the blocks; the yielded function advances by any of it.
    """
    hooked = list(blocks)
    share = total / max(len(hooked) + parts, 1)
    with exactly(total, advance) as step, _after(hooked, lambda _args, _kwargs: step(share)):
        yield step


@contextmanager
def ticking_all(blocks: Iterable[nn.Module], total: float, advance: Advance) -> Iterator[None]:
    """Any number of passes, worth `total` tokens together at most: blocks advance by the tokens that they read."""
    hooked = list(blocks)

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        step(x.shape[0] * x.shape[1] / len(hooked))

    with exactly(total, advance) as step, _after(hooked, read):
        yield


@contextmanager
def _after(blocks: Sequence[nn.Module], heard: Callable[[tuple[Any, ...], dict[str, Any]], None]) -> Iterator[None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        heard(args, kwargs)

    with ExitStack() as stack:
        for block in blocks:
            stack.callback(block.register_forward_hook(hook, with_kwargs=True).remove)
        yield


def blocks_of(hf: PreTrainedModel) -> list[nn.Module]:
    """The blocks of a model whose family is not known: its first list of as many modules as it has layers."""
    n_layers = getattr(hf.config.get_text_config(), "num_hidden_layers", 0)
    lists = (module for module in hf.modules() if isinstance(module, nn.ModuleList) and len(module) == n_layers)
    return list(next(lists, ()))
