"""Forward passes that end in next-token logits."""

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from pipeline.model.batching import length_sorted_batches, run_batches
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import partial_forward
from pipeline.model.passes.rowwise import Rows
from pipeline.model.passes.ticking import Advance, silent, ticking

T = TypeVar("T")
Logits = Float[Tensor, "prompt d_vocab"]


@dataclass(frozen=True)
class Split:
    """Prompts as the tokens that all share at their start, and the rest of each."""

    shared: Sequence[int]
    rests: Sequence[Sequence[int]]

    @classmethod
    def of(cls, model: ChatModel, prompts: Sequence[Sequence[int]]) -> "Split":
        """Cut prompts where they part; one prompt alone shares nothing."""
        n = chat.shared_prefix(prompts) if len(prompts) > 1 else 0
        window = getattr(model.hf.config.get_text_config(), "sliding_window", None)
        if window and max(map(len, prompts)) > window:
            # Padding between the shared tokens and the rest would count as distance.
            n = 0
        return cls(prompts[0][:n], [tokens[n:] for tokens in prompts])


@dataclass(frozen=True, eq=False)
class States:
    """`resid_pre` of the unchanged model at every token: of the shared ones, and of the rest of each prompt.

    Layer by layer, (token, d_model), in the model's dtype and on the layer's device. `cache` holds keys and
    values of the shared tokens; `as_tuple` says that the model's blocks return tuples.
    """

    shared: Sequence[Tensor]
    rests: Sequence[Sequence[Tensor]]
    cache: DynamicCache | None
    as_tuple: bool


@dataclass(frozen=True)
class Start:
    """Begin at the input of block `layer`, from what the unchanged model has there."""

    layer: int
    states: States


@torch.inference_mode()
def last_logits(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    progress: Advance = silent,
) -> Float[Tensor, "prompt d_vocab"]:
    """Next-token logits after each prompt, float32 on the CPU, in the order given.

    The tokens that all prompts share at their start are run once; the rest in length-sorted
    batches of at most `max_tokens` tokens. Runs under whatever intervention is in force. `progress`
    advances by `n_tokens(model, prompts)` in all.
    """
    jobs = [(0, prompt) for prompt in range(len(prompts))]
    read = run_jobs(model, Split.of(model, prompts), jobs, max_tokens, lambda logits, _: logits.float().cpu(), progress)
    return torch.stack(read)


def n_tokens(model: ChatModel, prompts: Sequence[Sequence[int]]) -> float:
    """Tokens that `last_logits` runs: those that all prompts share once, and the rest of each."""
    return job_tokens(Split.of(model, prompts), range(len(prompts))) if prompts else 0.0


def job_tokens(split: Split, prompts: Sequence[int], n_states: int = 1, share: float = 1.0) -> float:
    """Tokens that `run_jobs` runs for these prompts under each of some states, in a share of the blocks."""
    return share * n_states * (len(split.shared) + sum(len(split.rests[prompt]) for prompt in prompts))


@torch.inference_mode()
def all_logits(model: ChatModel, tokens: Sequence[int]) -> Float[Tensor, "token d_vocab"]:
    """Logits at every token of one sequence, float32 on the model's device."""
    ids = torch.tensor([list(tokens)], device=model.device)
    return model.hf(input_ids=ids, use_cache=False).logits[0].float()


@torch.inference_mode()
def run_jobs(
    model: ChatModel,
    split: Split,
    jobs: Sequence[tuple[int, int]],
    max_tokens: int,
    read: Callable[[Tensor, list[int]], Iterable[T]],
    progress: Advance = silent,
    rows: Rows | None = None,
    start: Start | None = None,
) -> list[T]:
    """What `read` makes of the next-token logits of each job, in order.

    A job is (state, prompt): `rows.current` says under which state each row of a batch is, and the shared
    tokens are run once for each state. `read` gets logits, row x d_vocab, and the numbers of their jobs.
    `progress`: see `job_tokens`.
    """
    rows = rows or Rows.none()
    states = sorted({state for state, _ in jobs})
    blocks = list(model.sites.blocks)[start.layer if start else 0 :]
    share = len(blocks) / model.n_layers
    with partial_forward.skipping(model.sites.blocks[: start.layer], start.states.as_tuple) if start else nullcontext():
        with ticking(blocks, share * len(states) * len(split.shared), progress):
            prefix = prefix_of(model, split.shared, states, rows, start) if split.shared else None
        lengths = [len(split.rests[prompt]) for _, prompt in jobs]
        results: dict[int, T] = {}

        def run(batch: list[int]) -> Iterable[T]:
            chosen = [jobs[job] for job in batch]
            rows.current = torch.tensor([state for state, _ in chosen], device=model.device)
            places = torch.tensor([states.index(state) for state, _ in chosen])
            with ticking(blocks, share * sum(lengths[job] for job in batch), progress):
                logits = _logits(model, split, [prompt for _, prompt in chosen], _rows_of(prefix, places), start)
                return read(logits, batch)

        tokens = [len(split.shared) + length for length in lengths]
        for batch, values in run_batches(length_sorted_batches(lengths, max_tokens), tokens, run):
            results.update(zip(batch, values, strict=True))
    return [results[job] for job in range(len(jobs))]


@torch.inference_mode()
def unchanged(
    model: ChatModel, split: Split, max_tokens: int, progress: Advance = silent
) -> tuple[Float[Tensor, "prompt d_vocab"], States]:
    """Next-token logits of every prompt, float32 on the CPU, and its `resid_pre`.

    `progress` advances by `unchanged_tokens(split)`: what the prompts share is run for its states, and again.
    """
    blocks, n_layers = model.sites.blocks, model.n_layers
    rests = [[torch.empty(0)] * len(split.rests) for _ in range(n_layers)]
    shapes: list[bool] = []
    handle = blocks[0].register_forward_hook(lambda _m, _a, value: shapes.append(isinstance(value, tuple)))
    with partial_forward.inputs_of(blocks) as inputs, ExitStack() as stack:
        stack.callback(handle.remove)
        with ticking(blocks, float(len(split.shared)), progress):
            cache = prefix_of(model, split.shared, [0], Rows.none(), None) if split.shared else None
        shared = inputs[:]
        inputs.clear()

        def read(logits: Tensor, batch: list[int]) -> Tensor:
            # Before them: those of the shared tokens, and of a batch that memory did not hold.
            for layer, x in enumerate(inputs[-n_layers:]):
                for row, prompt in enumerate(batch):
                    rests[layer][prompt] = x[row, x.shape[1] - len(split.rests[prompt]) :].clone()
            inputs.clear()
            return logits.float().cpu()

        jobs = [(0, prompt) for prompt in range(len(split.rests))]
        logits = torch.stack(run_jobs(model, split, jobs, max_tokens, read, progress))
    return logits, States(shared, rests, cache, shapes[0])


def unchanged_tokens(split: Split) -> float:
    """Tokens that `unchanged` runs."""
    return float(2 * len(split.shared) + sum(map(len, split.rests)))


def prefix_of(
    model: ChatModel, tokens: Sequence[int], states: Sequence[int], rows: Rows, start: Start | None
) -> DynamicCache:
    """Keys and values of the shared tokens, a row per state, without the unembedding."""
    cache = DynamicCache(config=model.hf.config)
    rows.current = torch.tensor(states, device=model.device)
    ids = torch.tensor([list(tokens)] * len(states), device=model.device)
    given = start.states.shared[start.layer].expand(len(states), -1, -1) if start else None
    with _given(model, start, given):
        model.hf.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
    if start:
        # Skipped blocks read none of theirs, but the model counts its tokens by them.
        whole = start.states.cache
        assert whole is not None, "states with a shared start have its cache"
        for layer in range(start.layer):
            cache.layers[layer] = copy.deepcopy(whole.layers[layer])
            cache.layers[layer].batch_repeat_interleave(len(states))  # type: ignore[attr-defined]
    return cache


def _rows_of(prefix: DynamicCache | None, rows: Tensor) -> DynamicCache | None:
    """A copy of the cache with the given row of it for each row of a batch."""
    if prefix is None:
        return None
    cache = copy.deepcopy(prefix)
    cache.batch_select_indices(rows)
    return cache


def _given(model: ChatModel, start: Start | None, x: Tensor | None) -> AbstractContextManager[None]:
    if start is None or x is None:
        return nullcontext()
    return partial_forward.starting_from(model.sites.blocks[start.layer], x)


def _logits(
    model: ChatModel, split: Split, prompts: Sequence[int], cache: DynamicCache | None, start: Start | None
) -> Tensor:
    rests = [split.rests[prompt] for prompt in prompts]
    padded = chat.pad_left(rests, model.pad_id, n_before=len(split.shared) if cache else 0)
    given = _padded([start.states.rests[start.layer][prompt] for prompt in prompts]) if start else None
    real = padded.attention_mask[:, -padded.input_ids.shape[1] :].bool().to(model.device)
    with partial_forward.only_needed(model.sites, real), _given(model, start, given):
        output = model.hf(
            **padded.inputs(model.hf), past_key_values=cache, use_cache=cache is not None, logits_to_keep=1
        )
    return output.logits[:, -1]


def _padded(states: Sequence[Tensor]) -> Tensor:
    width = max(map(len, states))
    return torch.stack([torch.nn.functional.pad(x, (0, 0, width - len(x), 0)) for x in states])
