"""Searching an adversarial suffix on the user's own open model (greedy coordinate gradient, Zou et al. 2023)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from pipeline.errors import UserError
from pipeline.maths.metrics import refusal_metric
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes.ticking import Advance, exactly, silent, ticking
from pipeline.suffix.maths.coordinates import best_replacements, proposals
from pipeline.suffix.model.regions import INSTRUCTION, SUFFIX, regioned

Suffix = Int[Tensor, " place"]


@dataclass(frozen=True, eq=False)
class Goal:
    """What a suffix should lower, in nats, averaged over prompts.

    `affirmative`: cross-entropy per token of an affirmative beginning of the answer. `refusal`: the refusal
    metric, log-odds of the refusal tokens as the first of the answer.
    """

    objective: str
    target: tuple[int, ...]
    refusal_tokens: Int[Tensor, " token"]


class Search:
    """Proposes and scores suffixes; holds no state that changes, so that a search resumes from a sequence alone."""

    def __init__(self, model: ChatModel, instructions: Sequence[str], goal: Goal, max_tokens: int):
        self.model, self.goal, self.max_tokens = model, goal, max_tokens
        self.instructions = tuple(instructions)
        self.allowed = allowed_tokens(model)
        tail = len(model.post_instruction)
        self.before = [regioned(model, instruction).tokens[:-tail] for instruction in instructions]
        self.padded, self.cache = _prefix(model, self.before)

    def step(self, current: Suffix, k: int, count: int, seed: int, progress: Advance = silent) -> tuple[Suffix, float]:
        """The best of `count` one-token changes and its loss; the sequence itself where none reads back as it is.

        `progress` advances by `n_tokens(len(current), count)`, however many read back.
        """
        with exactly(self.n_tokens(len(current), count), progress) as advance:
            replacements = best_replacements(self.gradient(current, advance), self.allowed, k)
            return self.best(list(proposals(current, replacements, count, seed)), current, advance)

    def n_tokens(self, length: int, count: int) -> float:
        """Tokens of a step: a row per candidate and prompt, and the gradient, whose way back costs two passes."""
        return float((count + 3) * self._width(length) * len(self.before))

    def _width(self, length: int) -> int:
        return length + len(self.model.post_instruction) + len(self.goal.target)

    def best(self, rows: Sequence[Suffix], otherwise: Suffix, progress: Advance = silent) -> tuple[Suffix, float]:
        """The row of the lowest loss among those that read back as they are."""
        sound = [row for row in rows if self.reads_back(row)]
        if not sound:
            return otherwise, float("inf")
        losses = self.losses(torch.stack(sound), progress)
        best = int(losses.argmin())
        return sound[best], float(losses[best])

    def gradient(self, suffix: Suffix, progress: Advance = silent) -> Float[Tensor, "place d_vocab"]:
        """Gradient of the loss with respect to the one-hot tokens of the suffix, up to a positive factor."""
        embedding = self.model.hf.get_input_embeddings()
        weight: Tensor = embedding.weight  # type: ignore[assignment]
        leaves: list[Tensor] = []

        def leaf(_module: object, _args: object, value: Tensor) -> Tensor:
            leaves.append(value.detach().requires_grad_(True))
            return leaves[0]

        handle = embedding.register_forward_hook(leaf)
        try:
            with exactly(self.n_tokens(len(suffix), 0), progress) as advance, torch.enable_grad():
                self._losses(suffix[None], advance).sum().backward()
        finally:
            handle.remove()
        assert leaves[0].grad is not None, "the loss depends on the suffix"
        total = leaves[0].grad[:, : len(suffix)].float().sum(dim=0)
        # An embedding's output is a row of its matrix times a constant: the chain rule is one product.
        return (total.to(weight.dtype) @ weight.T).float().cpu()

    @torch.no_grad()
    def losses(self, suffixes: Int[Tensor, "suffix place"], progress: Advance = silent) -> Float[Tensor, " suffix"]:
        """Loss of each suffix, averaged over the prompts."""
        size = max(1, self.max_tokens // (self._width(suffixes.shape[1]) * len(self.before)))
        return torch.cat([self._losses(part, progress) for part in suffixes.split(size)])

    def _losses(self, suffixes: Tensor, progress: Advance) -> Tensor:
        """Rows of a batch: every suffix after the first prompt, then after the second, and so on."""
        goal, n_prompts, n = self.goal, len(self.before), len(suffixes)
        fixed = torch.tensor([*self.model.post_instruction, *goal.target]).repeat(n, 1)
        ids = torch.cat([suffixes, fixed], dim=1).repeat(n_prompts, 1)
        starts = torch.tensor([len(tokens) for tokens in self.before]).repeat_interleave(n)
        mask = torch.cat([self.padded.attention_mask.repeat_interleave(n, dim=0), torch.ones_like(ids)], dim=1)
        batch = chat.Padded(ids, mask, starts[:, None] + torch.arange(ids.shape[1]))
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(n)
        hf = self.model.hf
        kept = len(goal.target) + 1
        with ticking(self.model.sites.blocks, float(ids.numel()), progress):
            out = hf(**batch.inputs(hf), past_key_values=cache, use_cache=True, logits_to_keep=kept)
        return _loss(out.logits, goal).reshape(n_prompts, n).mean(dim=0).cpu()

    def reads_back(self, suffix: Suffix) -> bool:
        """The suffix as text, joined to every prompt, is read as these very tokens."""
        return _reads_back(self.model, self.instructions, suffix.tolist())

    def text(self, suffix: Suffix) -> str:
        """The suffix as it is appended to an instruction, without the space that joins them."""
        return _text(self.model, suffix.tolist())

    def start(self, n_tokens: int, seed: int) -> Suffix:
        """Random tokens that read back, grown one by one."""
        return random_tokens(self.model, self.instructions, self.allowed, n_tokens, seed)


def _loss(logits: Tensor, goal: Goal) -> Tensor:
    if goal.objective == "refusal":
        return refusal_metric(logits[:, 0], goal.refusal_tokens)
    log_p = logits[:, :-1].float().log_softmax(dim=-1)
    targets = torch.tensor(goal.target, device=log_p.device).expand(len(log_p), -1)
    return -log_p.gather(2, targets[:, :, None])[:, :, 0].mean(dim=1).double()


@torch.no_grad()
def _prefix(model: ChatModel, before: Sequence[Sequence[int]]) -> tuple[chat.Padded, DynamicCache]:
    """What precedes the suffix, once: a left-padded batch and its KV cache."""
    padded = chat.pad_left(before, model.pad_id)
    cache = DynamicCache(config=model.hf.config)
    model.hf(**padded.inputs(model.hf), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return padded, cache


def allowed_tokens(model: ChatModel) -> Int[Tensor, " allowed"]:
    """Tokens that stand for printable ASCII text: no special token, no part of a character."""
    tokenizer, size = model.tokenizer, model.hf.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr]
    special = set(tokenizer.all_special_ids) | set(getattr(tokenizer, "added_tokens_decoder", {}))
    texts = tokenizer.batch_decode([[token] for token in range(min(size, len(tokenizer)))])
    allowed = [t for t, text in enumerate(texts) if t not in special and text.isascii() and text.isprintable() and text]
    return torch.tensor(allowed)


def random_tokens(
    model: ChatModel, instructions: Sequence[str], allowed: Int[Tensor, " allowed"], n_tokens: int, seed: int
) -> Suffix:
    """A random sequence that, as text joined to every instruction, is read as exactly these tokens.

    Grown token by token, each drawn evenly from the allowed ones and drawn again where it merges with
    its neighbours. Raises UserError when the tokenizer lets no sequence through.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = _joint(model, instructions[0])
    for _ in range(200 * n_tokens):
        tokens.append(int(allowed[torch.randint(len(allowed), (), generator=generator)]))
        if not _reads_back(model, instructions, tokens):
            tokens.pop()
        if len(tokens) == n_tokens:
            return torch.tensor(tokens)
    raise UserError(f"no random suffix of {n_tokens} tokens reads back as itself in this tokenizer: use another length")


def _joint(model: ChatModel, instruction: str) -> list[int]:
    """The space before the suffix, where it is a token of its own."""
    first = regioned(model, instruction, "a").of(SUFFIX)[0]
    return [first] if chat.decode(model.tokenizer, [first]) == " " else []


def _text(model: ChatModel, tokens: Sequence[int]) -> str:
    return chat.decode(model.tokenizer, tokens).removeprefix(" ")


def _reads_back(model: ChatModel, instructions: Sequence[str], tokens: Sequence[int]) -> bool:
    text = _text(model, tokens)
    if not text or text != text.strip():  # a template may strip what is at the end
        return False
    try:
        return all(_same(model, instruction, text, tokens) for instruction in instructions)
    except UserError:  # it merges with the template, or writes a special token
        return False


def _same(model: ChatModel, instruction: str, text: str, tokens: Sequence[int]) -> bool:
    joined, plain = regioned(model, instruction, text), regioned(model, instruction)
    return joined.of(SUFFIX) == tuple(tokens) and joined.of(INSTRUCTION) == plain.of(INSTRUCTION)
