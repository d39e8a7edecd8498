"""Is the model what its family file says? Checked at load; nothing is measured on a model that fails."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.config.chat import ChatFormat
from pipeline.errors import UserError
from pipeline.maths.interventions import orthogonalize_
from pipeline.model import writers
from pipeline.model.chat import chat, limits
from pipeline.model.loading.foreign import Watch, unwatched
from pipeline.model.passes.ticking import Advance, n_tokens, ticking
from pipeline.model.sites import Sites, output

INSTRUCTIONS = ("Hello", "Name three large rivers and the seas that they flow into.", "What is 2 + 2?")
# Rounding steps by which a sum of three numbers may differ, and a whole forward pass.
SUM_STEPS, PASS_STEPS = 8, 32


@dataclass(frozen=True)
class Report:
    """What was checked: largest relative errors, and counts."""

    residual_error: float
    padding_error: float
    cosine_after_edit: float | None
    n_writers: int
    n_others: int


@torch.inference_mode()
def check(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sites: Sites,
    form: ChatFormat,
    watch: Watch = unwatched,
) -> Report:
    """Hold the model against its family.

    resid_pre + writes = resid_post at every block; a padded batch equals single prompts; every
    parameter is known; projecting the declared writers of a block of each kind clears its writes;
    prompts have one BOS and end in the post-instruction tokens. Raises UserError naming the model,
    the family and what fails.
    """
    where = f"model '{name}' (family '{sites.family.name}')"
    accounts = writers.account([key for key, _ in model.named_parameters()], sites.family)
    prompts = _prompts(where, tokenizer, form)
    limits.require_readable(name, model, prompts)
    with watch("checking the model", 2 * n_tokens(prompts) + n_tokens(prompts[:1]), "token") as advance:
        padded = _run(model, sites, chat.pad_left(prompts, limits.pad_id(tokenizer, model)), advance)
        residual_error = _check_sums(where, sites, padded, prompts)
        padding_error = max(
            _check_padding(where, model, sites, padded, row, prompt, advance) for row, prompt in enumerate(prompts)
        )
        alone = _run(model, sites, chat.pad_left(prompts[:1], limits.pad_id(tokenizer, model)), advance)
    cosine = _check_edits(where, model, sites, accounts, alone)
    return Report(residual_error, padding_error, cosine, len(accounts.writers), len(accounts.others))


@dataclass(frozen=True)
class Trace:
    """One forward pass: writes and residual streams, float32 on the CPU, and what each block was called with."""

    embeddings: list[Tensor]
    resid: list[Tensor]  # resid_pre of every block, then what the last one returns
    attention: list[Tensor]
    mlp: list[Tensor]
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]


def _run(model: PreTrainedModel, sites: Sites, padded: chat.Padded, advance: Advance) -> Trace:
    trace = Trace([], [], [], [], [])
    with ticking(sites.blocks, float(padded.attention_mask.sum()), advance), _recording(sites, trace):
        model(**padded.inputs(model), use_cache=False, logits_to_keep=1)
    return trace


@contextmanager
def _recording(sites: Sites, trace: Trace) -> Iterator[None]:
    def keep(into: list[Tensor]) -> Any:
        return lambda _module, _args, value: into.append(output(value).detach().float().cpu().clone())

    def keep_write(into: list[Tensor]) -> Any:
        # Some experts hand out tokens without the batch's axis.
        return lambda _module, _args, value: into.append(
            output(value).detach().float().cpu().clone().reshape(trace.resid[-1].shape)
        )

    def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        trace.calls.append((args, kwargs))
        x = args[0] if args else kwargs["hidden_states"]
        trace.resid.append(x.detach().float().cpu().clone())

    handles = [module.register_forward_hook(keep(trace.embeddings)) for module in sites.embeddings]
    handles += [module.register_forward_hook(keep_write(trace.attention)) for module in sites.attention]
    handles += [module.register_forward_hook(keep_write(trace.mlp)) for module in sites.mlp]
    handles += [block.register_forward_pre_hook(enter, with_kwargs=True) for block in sites.blocks]
    handles.append(sites.blocks[-1].register_forward_hook(keep(trace.resid)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _prompts(where: str, tokenizer: PreTrainedTokenizerBase, form: ChatFormat) -> list[list[int]]:
    prompts = chat.encode(tokenizer, INSTRUCTIONS, form)
    tail, bos = chat.post_instruction_tokens(tokenizer, form), tokenizer.bos_token_id
    for instruction, tokens in zip(INSTRUCTIONS, prompts, strict=True):
        if tokens[-len(tail) :] != tail:
            raise UserError(
                f"{where}: the prompt of {instruction!r} does not end in the template's post-instruction tokens "
                f"{tail} but in {tokens[-len(tail) :]}: positions would be wrong; mend the chat template"
            )
        if bos is not None and tokens[:2] == [bos, bos]:
            raise UserError(f"{where}: a prompt begins with two BOS tokens: mend the chat template")
    return prompts


def _check_sums(where: str, sites: Sites, trace: Trace, prompts: Sequence[Sequence[int]]) -> float:
    real = torch.zeros(trace.resid[0].shape[:2], dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        real[row, -len(prompt) :] = True
    embeddings = torch.broadcast_tensors(*trace.embeddings)
    terms = [("embeddings", [sites.embedding_multiplier * x for x in embeddings])]
    for layer, writes in enumerate(zip(trace.attention, trace.mlp, strict=True)):
        written = [sites.residual_multiplier * x for x in writes]
        terms.append((f"{sites.family.blocks}.{layer}", [trace.resid[layer], *written]))
    worst = 0.0
    for (module, parts), actual in zip(terms, trace.resid, strict=True):
        _require_finite(where, module, actual[real])
        # Number by number, so that a stream with a few huge coordinates hides nothing.
        size = sum(part.abs() for part in parts) + torch.finfo(actual.dtype).tiny
        error = float(((sum(parts) - actual).abs() / size)[real].max())
        if not error <= SUM_STEPS * _epsilon(sites):
            raise UserError(
                f"{where}: resid_pre + attention + MLP writes differ from the residual stream after '{module}' by "
                f"{error:.1g} of its size: the family file names another module than the one that writes"
            )
        worst = max(worst, error)
    return worst


def _require_finite(where: str, module: str, x: Tensor) -> None:
    if not bool(torch.isfinite(x).all()):
        raise UserError(
            f"{where}: the residual stream after '{module}' holds NaN or infinity: its weights are damaged, "
            "or engine.dtype is too narrow for it"
        )


def _check_padding(
    where: str,
    model: PreTrainedModel,
    sites: Sites,
    padded: Trace,
    row: int,
    prompt: Sequence[int],
    advance: Advance,
) -> float:
    alone = _run(model, sites, chat.pad_left([prompt], 0), advance).resid[-1][0, -1]
    error = float((alone - padded.resid[-1][row, -1]).norm() / alone.norm())
    if not error <= PASS_STEPS * _epsilon(sites):
        raise UserError(
            f"{where}: a prompt in a left-padded batch differs from the same prompt alone by {error:.1g} of its size: "
            "its positions or attention mask ignore padding"
        )
    return error


def _check_edits(
    where: str, model: PreTrainedModel, sites: Sites, accounts: writers.Accounts, trace: Trace
) -> float | None:
    """Project the declared writers of one block of each kind against its own writes: nothing may be left."""
    parameters = dict(model.named_parameters())
    kinds: dict[Any, int] = {}
    for layer, block in enumerate(sites.blocks):
        shapes = tuple((key, tuple(value.shape)) for key, value in block.named_parameters())
        kinds.setdefault(shapes, layer)
    worst = None
    for layer in kinds.values():
        prefix = f"{sites.family.blocks}.{layer}."
        own = writers.Accounts({k: w for k, w in accounts.writers.items() if k.startswith(prefix)}, ())
        if any(not parameters[key].is_floating_point() or parameters[key].is_meta for key in own.writers):
            continue  # packed, or on disk: its weights cannot be edited here
        for part, module in (("attention", sites.attention[layer]), ("MLP", sites.mlp[layer])):
            cosine = _cosine_after_edit(sites, own, parameters, module, layer, trace)
            if not cosine <= _edit_tolerance(sites):
                raise UserError(
                    f"{where}: after projecting every declared writer of '{prefix[:-1]}', its {part} still writes "
                    f"along the direction (cosine {cosine:.2g}): a parameter that writes is missing, or its axis wrong"
                )
            worst = max(worst or 0.0, cosine)
    return worst


def _cosine_after_edit(
    sites: Sites, own: writers.Accounts, parameters: Mapping[str, Tensor], module: nn.Module, layer: int, trace: Trace
) -> float:
    before = _write(sites, module, layer, trace)
    r_hat = before / before.norm()
    kept = {name: parameters[name].clone() for name in own.writers}
    try:
        for name, edit in writers.edits(own, parameters.__getitem__, r_hat).items():
            orthogonalize_(parameters[name], edit.removed, edit.axis)
        after = _write(sites, module, layer, trace)
    finally:
        for name, value in kept.items():
            parameters[name].copy_(value)
    return float((after @ r_hat).abs() / before.norm())


def _write(sites: Sites, module: nn.Module, layer: int, trace: Trace) -> Tensor:
    """What the module writes at the last token when its block runs again, float64."""
    written: list[Tensor] = []
    handle = module.register_forward_hook(lambda _m, _a, value: written.append(_last(value)))
    args, kwargs = trace.calls[layer]
    try:
        sites.blocks[layer](*args, **kwargs)
    finally:
        handle.remove()
    return written[0]


def _last(value: Any) -> Tensor:
    """A module's output at the last token of one prompt, float64."""
    x = output(value)
    return x.reshape(-1, x.shape[-1])[-1].double().cpu()


def _epsilon(sites: Sites) -> float:
    return torch.finfo(sites.head.weight.dtype).eps


def _edit_tolerance(sites: Sites) -> float:
    return 0.05 if _epsilon(sites) > 1e-4 else 1e-4
