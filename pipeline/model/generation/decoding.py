"""Answers to one batch of prompts, greedy or drawn, by the project's own loop or by the library's."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache

from pipeline.maths.sampling import Draws, next_tokens
from pipeline.model.batching import length_sorted_batches
from pipeline.model.chat import chat
from pipeline.model.generation import kvcache, library
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.rowwise import Rows
from pipeline.model.passes.ticking import Advance, exactly, n_tokens, silent, ticking, ticking_all

Answer = tuple[tuple[int, ...], bool]


def stop_tokens(model: ChatModel) -> set[int]:
    """Tokens that end an answer: those the model declares, and the tokenizer's own."""
    return library.stop_tokens(model.hf, model.tokenizer)


def n_silent(model: ChatModel, logits: Float[Tensor, "prompt d_vocab"]) -> int:
    """How many prompts the model ends its greedy answer to before it begins; logits after each prompt."""
    stops = stop_tokens(model)
    return sum(int(token) in stops for token in logits.argmax(dim=-1))


def by_library(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    padding: int,
    progress: Advance = silent,
    draws: Draws | None = None,
) -> list[Answer]:
    """(tokens, ended by the model itself) of every prompt, from transformers' own `generate`.

    `draws`: by which tokens are drawn, a row for each prompt; None: greedy. `progress` advances by the prompts'
    tokens, and by those that answers of full length would take.
    """
    padded = chat.pad_left(prompts, model.pad_id, extra=padding)
    stops = stop_tokens(model)
    with ticking_all(model.sites.blocks, n_tokens(prompts) + answer_tokens(len(prompts), max_new_tokens), progress):
        rows = library.generate(model.hf, model.tokenizer, padded, model.pad_id, max_new_tokens, draws)
    return [_until_stop(row, stops) for row in rows]


def answer_tokens(n_rows: int, max_new_tokens: int) -> float:
    """Tokens that the model reads of answers of full length: the last of each is only predicted."""
    return float(n_rows * max(max_new_tokens - 1, 0))


def _until_stop(tokens: list[int], stops: set[int]) -> Answer:
    end = next((index for index, token in enumerate(tokens) if token in stops), None)
    return (tuple(tokens), False) if end is None else (tuple(tokens[:end]), True)


@dataclass
class _State:
    """Rows still going: next-token logits, cache, mask with a slot for every token to come, next position."""

    logits: Float[Tensor, "row d_vocab"]
    cache: Cache
    mask: Int[Tensor, "row slot"]
    n_slots: int
    positions: Int[Tensor, " row"]
    states: Int[Tensor, " row"]

    def keep(self, rows: list[int]) -> None:
        index = torch.tensor(rows)
        layers: list[Any] = self.cache.layers
        for layer in layers:
            layer.batch_select_indices(index)
        kept = (self.mask, self.positions, self.states)
        self.mask, self.positions, self.states = (x[index.to(x.device)] for x in kept)


class Decoder:
    """Answers under whatever interventions are in force; holds for those alone, since it keeps a prefix.

    Rows of one batch may be under several (`pipeline.model.passes.rowwise`), each in a state of its own.
    """

    def __init__(
        self,
        model: ChatModel,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        padding: int = 0,
        max_tokens: int = 10**9,
        stops: Collection[int] | None = None,
        rows: Rows | None = None,
        n_states: int = 1,
        progress: Advance = silent,
    ):
        """`prompts`: all that will be asked for; what they share at their start is run once, whoever asks first.

        `padding`: tokens of left padding beyond what a batch needs. `max_tokens`: in one padded forward pass.
        `stops`: tokens that end an answer; None: the model's. `rows` is told the state of each row, of `n_states`.
        `progress`: see `n_tokens`.
        """
        self._rows, self._n_states = rows or Rows.none(), n_states
        self._model, self._max_new_tokens, self._padding, self._max_tokens = model, max_new_tokens, padding, max_tokens
        self._stops = stop_tokens(model) if stops is None else stops
        self._progress = progress
        self._window = kvcache.plan(model.hf).window
        longest = max(map(len, prompts), default=0) + padding + max_new_tokens
        # A sliding window counts slots, and padding stands between the prefix and the rest of a shorter prompt.
        shares = len(prompts) > 1 and (self._window is None or longest <= self._window)
        self._shared = list(prompts[0][: chat.shared_prefix(prompts)]) if shares else []
        self._prefix: Cache | None = None

    def answers(
        self, prompts: Sequence[Sequence[int]], states: Sequence[int] | None = None, draws: Draws | None = None
    ) -> list[Answer]:
        """(tokens, ended by the model itself) of every prompt of one batch, which comes in order of length.

        `states`: of each row; None: all are in the one state. `draws`: by which the tokens of each row are drawn;
        None: greedy.
        """
        chosen = torch.tensor(states or [0] * len(prompts), device=self._model.device)
        with exactly(self._own_tokens(prompts), self._progress) as advance:
            return self._answers(prompts, chosen, draws, advance)

    def n_tokens(self, batches: Sequence[Sequence[Sequence[int]]]) -> float:
        """Tokens of these batches if every answer is of full length; the rest of a shorter one counts as run."""
        return sum(map(self._own_tokens, batches), float(self._n_states * len(self._shared) if batches else 0))

    def _own_tokens(self, prompts: Sequence[Sequence[int]]) -> float:
        answers = answer_tokens(len(prompts), self._max_new_tokens)
        return n_tokens(prompts) - len(prompts) * len(self._shared) + answers

    def _answers(
        self, prompts: Sequence[Sequence[int]], states: Int[Tensor, " row"], draws: Draws | None, advance: Advance
    ) -> list[Answer]:
        state = self._prefill(prompts, states, advance)
        rows = list(range(len(prompts)))
        generated: list[list[int]] = [[] for _ in prompts]
        ended = [False] * len(prompts)
        for step in range(self._max_new_tokens):
            # float32, as in the library: argmax over bfloat16 is five times slower on a CPU.
            tokens = next_tokens(state.logits.float(), draws, rows, step).to(self._model.device)
            for row, token in zip(rows, tokens.tolist(), strict=True):
                ended[row] = token in self._stops
                if not ended[row]:
                    generated[row].append(token)
            order = kvcache.closed_ranks([not ended[row] for row in rows])
            if not order or step + 1 == self._max_new_tokens:
                break
            if len(order) < len(rows):
                advance(float((len(rows) - len(order)) * (self._max_new_tokens - 1 - step)))
                rows, tokens = [rows[index] for index in order], tokens[order]
                state.keep(order)
            self._step(state, tokens, advance)
        return [(tuple(row), end) for row, end in zip(generated, ended, strict=True)]

    def _prefill(self, prompts: Sequence[Sequence[int]], states: Int[Tensor, " row"], advance: Advance) -> _State:
        rests = [tokens[len(self._shared) :] for tokens in prompts]
        lengths = [len(rest) + self._padding for rest in rests]
        assert lengths == sorted(lengths), "or rows would change places in the chunks"
        # What a sliding window has dropped cannot be aligned with other rows.
        most = self._max_tokens if self._window is None else 10**9
        logits, caches, padded = [], [], []
        for chunk in length_sorted_batches(lengths, most):
            prefix = self._shared_prefix()
            part = chat.pad_left(
                [rests[row] for row in chunk], self._model.pad_id, len(self._shared), extra=self._padding
            )
            own = states[torch.tensor(chunk, device=states.device)]
            caches.append(kvcache.started(self._model.hf, prefix, own))
            with ticking(self._model.sites.blocks, n_tokens(rests[row] for row in chunk), advance):
                logits.append(self._forward(part, caches[-1], own))
            padded.append(part)
        mask = _right_aligned([part.attention_mask for part in padded]).to(self._model.device)
        return _State(
            logits=torch.cat(logits),
            cache=kvcache.joined(caches, self._max_new_tokens),
            mask=torch.nn.functional.pad(mask, (0, self._max_new_tokens), value=1),
            n_slots=mask.shape[1],
            positions=torch.cat([part.position_ids[:, -1] + 1 for part in padded]).to(self._model.device),
            states=states,
        )

    def _step(self, state: _State, tokens: Int[Tensor, " row"], advance: Advance) -> None:
        state.n_slots += 1
        mask, positions = state.mask[:, : state.n_slots], state.positions[:, None]
        with ticking(self._model.sites.blocks, float(len(tokens)), advance):
            state.logits = self._forward(chat.Padded(tokens[:, None], mask, positions), state.cache, state.states)
        state.positions = state.positions + 1

    def _shared_prefix(self) -> Cache | None:
        if self._shared and self._prefix is None:
            every = torch.arange(self._n_states, device=self._model.device)
            self._prefix = kvcache.started(self._model.hf, None, every)
            # Not the batch's own work: a batch that is run again finds it here.
            with ticking(self._model.sites.blocks, float(len(every) * len(self._shared)), self._progress):
                self._forward(chat.pad_left([self._shared] * len(every), self._model.pad_id), self._prefix, every)
        return self._prefix

    def _forward(self, part: chat.Padded, cache: Cache, states: Int[Tensor, " row"]) -> Float[Tensor, "row d_vocab"]:
        self._rows.current = states
        inputs = part.inputs(self._model.hf)
        return self._model.hf(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]


def _right_aligned(masks: Sequence[Tensor]) -> Int[Tensor, "row slot"]:
    longest = max(mask.shape[1] for mask in masks)
    return torch.cat([torch.nn.functional.pad(mask, (longest - mask.shape[1], 0)) for mask in masks])
