"""What every head writes along a direction at the last token, and where it looks (paper, section 5)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nnsight
import torch
from jaxtyping import Float
from nnsight import TransformersModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.errors import UserError
from pipeline.model.batching import length_sorted_batches, run_batches
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import tracing
from pipeline.model.passes.ticking import Advance, n_tokens, silent, ticking
from pipeline.model.sites import output
from pipeline.suffix.maths import attribution

# Rounding steps by which two ways to compute attention may differ after all blocks.
SAME_STEPS = 64


@dataclass(frozen=True, eq=False)
class LastToken:
    """The last token of one prompt: projections on r_hat of all that was written to its residual stream, float64.

    `heads` and `constants` (biases of W_O) sum to the attention writes, layer by layer. `resid`: the
    stream before every block and after the last. `cosine`: of resid_pre with r_hat. `attention`: from
    this token to every token of the prompt, float32.
    """

    embedding: float
    heads: Float[Tensor, "layer head"]
    constants: Float[Tensor, " layer"]
    attention_writes: Float[Tensor, " layer"]
    mlp: Float[Tensor, " layer"]
    resid: Float[Tensor, " layer_and_end"]
    cosine: Float[Tensor, " layer"]
    attention: Float[Tensor, "layer head token"]

    @property
    def summed(self) -> Float[Tensor, " layer_and_end"]:
        """embedding + heads + constants + MLPs of the blocks before: what `resid` should be."""
        start = torch.tensor([self.embedding], dtype=torch.float64)
        written = self.heads.sum(dim=1) + self.constants + self.mlp
        return torch.cat([start, self.embedding + written.cumsum(dim=0)])


@dataclass(frozen=True)
class OutputSite:
    """Where a block's heads come together: the module W_O by name, and the attention module around it."""

    w_out: str
    attention: str


def output_site(model: ChatModel) -> OutputSite:
    """Names relative to a block, from the family's first attention parameter."""
    w_out = model.sites.family.attention.parameters[0].name.removesuffix(".weight")
    return OutputSite(w_out, w_out.rpartition(".")[0])


def n_heads(model: ChatModel) -> int:
    """Query heads per block."""
    return int(model.hf.config.get_text_config().num_attention_heads)


def last_tokens(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    r_hat: Float[Tensor, " d_model"],
    max_tokens: int,
    progress: Advance = silent,
) -> list[LastToken]:
    """What nnsight reads at the last token of every prompt, under eager attention; `progress`: of their tokens.

    Raises UserError for weights that are packed or on disk, and for an architecture that gives no
    attention probabilities, or whose eager attention is not equal to the one it runs with.
    """
    readers = [_Reader(model, layer, r_hat) for layer in range(model.n_layers)]
    _require_same_attention(model, prompts[0])
    lengths = [len(tokens) for tokens in prompts]
    by_row: dict[int, LastToken] = {}
    with eager_attention(model.hf):
        for batch, rows in run_batches(
            length_sorted_batches(lengths, max_tokens),
            lengths,
            lambda batch: _read(model, [prompts[row] for row in batch], readers, r_hat, progress),
        ):
            by_row.update(zip(batch, rows, strict=True))
    return [by_row[row] for row in range(len(prompts))]


@contextmanager
def eager_attention(hf: PreTrainedModel) -> Iterator[None]:
    """Attention computed step by step inside the block, so that its probabilities exist."""
    configs: dict[int, Any] = {id(module.config): module.config for module in hf.modules() if hasattr(module, "config")}
    before = {key: config._attn_implementation for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation = "eager"
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]


def _require_same_attention(model: ChatModel, prompt: Sequence[int]) -> None:
    usual = tracing.resid_pre(model, [prompt], 1)
    with eager_attention(model.hf):
        eager = tracing.resid_pre(model, [prompt], 1)
    error = float((eager - usual).norm() / usual.norm())
    if not error <= SAME_STEPS * torch.finfo(model.sites.head.weight.dtype).eps:
        raise UserError(
            f"model '{model.name}': eager attention differs from the attention it runs with by {error:.1g} of the "
            "residual stream (transformers computes this architecture in two ways): heads cannot be read"
        )


class _Reader:
    """W_O of one block, read along the direction."""

    def __init__(self, model: ChatModel, layer: int, r_hat: Tensor):
        family, block = model.sites.family, model.sites.blocks[layer]
        module: Any = block.get_submodule(output_site(model).w_out)
        if module.weight.is_meta or not module.weight.is_floating_point():
            raise UserError("the weights of W_O are on disk or packed: heads need plain weights in memory")
        weight = module.weight.detach().cpu().double()
        self.w_out = weight if family.attention.parameters[0].axis == 0 else weight.T
        bias = getattr(module, "bias", None)
        self.bias = torch.zeros(len(r_hat), dtype=torch.float64) if bias is None else bias.detach().cpu().double()
        self.gain = _gain(model, block)
        self.multiplier = model.sites.residual_multiplier
        self.r = r_hat.cpu().double() * (1.0 if self.gain is None else self.gain)
        self.n_heads = n_heads(model)

    def __call__(self, z: Tensor, before_norm: Tensor, write: Tensor) -> tuple[Tensor, Tensor]:
        """Projections of the heads, prompt x head, and of the bias, per prompt."""
        scale = torch.full((len(z),), self.multiplier, dtype=torch.float64)
        if self.gain is not None:
            scale = scale * attribution.norm_scale(before_norm, self.gain, write)
        heads = attribution.head_projections(z, self.w_out, self.r, self.n_heads)
        return heads * scale[:, None], (self.bias @ self.r) * scale


def _gain(model: ChatModel, block: nn.Module) -> Tensor | None:
    """What a norm between W_O and the stream multiplies by; its scale per token is measured."""
    norm = model.sites.family.attention.norm
    if norm is None:
        return None
    if norm.centred:
        raise UserError(f"family '{model.sites.family.name}' centres what attention writes: heads do not add up there")
    return block.get_parameter(norm.gain).detach().cpu().double() + norm.offset


def _read(
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    readers: Sequence[_Reader],
    r_hat: Tensor,
    progress: Advance,
) -> list[LastToken]:
    with ticking(model.sites.blocks, n_tokens(prompts), progress):
        embeddings, blocks, end = _trace(model, prompts)
    r = r_hat.cpu().double()
    sites = model.sites
    embedding = sites.embedding_multiplier * sum(x.double() @ r for x in embeddings)
    written = [reader(row.z, row.before_norm, row.attention) for reader, row in zip(readers, blocks, strict=True)]
    heads, constants = (torch.stack(values, dim=1) for values in zip(*written, strict=True))
    pre = torch.stack([row.resid for row in blocks], dim=1).double()
    attention = sites.residual_multiplier * torch.stack([row.attention for row in blocks], dim=1).double() @ r
    mlp = sites.residual_multiplier * torch.stack([row.mlp for row in blocks], dim=1).double() @ r
    resid = torch.cat([pre @ r, (end.double() @ r)[:, None]], dim=1)
    cosine = (pre @ r) / pre.norm(dim=-1)
    looks = torch.stack([row.looks for row in blocks], dim=1)
    return [
        LastToken(
            float(torch.as_tensor(embedding)[index]),
            heads[index],
            constants[index],
            attention[index],
            mlp[index],
            resid[index],
            cosine[index],
            looks[index, :, :, -len(prompt) :].clone(),
        )
        for index, prompt in enumerate(prompts)
    ]


@dataclass(frozen=True, eq=False)
class _Block:
    """One block at the last token of each prompt, float32 on the CPU; `looks`: prompt x head x padded token."""

    resid: Tensor
    z: Tensor
    before_norm: Tensor
    looks: Tensor
    attention: Tensor
    mlp: Tensor


def _trace(model: ChatModel, prompts: Sequence[Sequence[int]]) -> tuple[list[Tensor], list[_Block], Tensor]:
    """Writes of the embeddings, every block, and the stream after the last one."""
    family, site = model.sites.family, output_site(model)
    traced = TransformersModel(model.hf, tokenizer=model.tokenizer)
    inputs = chat.pad_left(prompts, model.pad_id).inputs(model.hf)
    [attention_path], [mlp_path] = family.attention.modules, family.mlp.modules
    n_layers, name = model.n_layers, model.name
    with torch.inference_mode(), traced.trace(inputs, use_cache=False) as tracer:
        embeddings, blocks = [], []
        for path in family.embedding.modules:
            embeddings.append(_last(traced.get(path).output).expand(len(prompts), -1))
        for layer in range(n_layers):
            block = traced.get(f"{family.blocks}.{layer}")
            resid = _last(block.input)
            z = _last(block.get(site.w_out).input)
            before_norm = _last(block.get(site.w_out).output)
            whole = block.get(site.attention).output
            looks = _probabilities(whole, name)
            # What writes is the attention module, its W_O (both have been read), or a norm that comes later.
            read_before = {site.attention: _last(whole), site.w_out: before_norm}
            attention = read_before.get(attention_path)
            if attention is None:
                attention = _last(block.get(attention_path).output)
            mlp = _last(block.get(mlp_path).output)
            blocks.append(_Block(resid, z, before_norm, looks, attention, mlp))
        end = _last(traced.get(f"{family.blocks}.{n_layers - 1}").output)
        read = nnsight.save((embeddings, blocks, end))
        tracer.stop()
    return read


def _last(value: Any) -> Tensor:
    return output(value)[:, -1].to("cpu", torch.float32, copy=True)


def _probabilities(value: Any, name: str) -> Tensor:
    if not (isinstance(value, tuple) and len(value) > 1 and isinstance(value[1], Tensor)):
        raise UserError(f"model '{name}' gives no attention probabilities under eager attention")
    return value[1][:, :, -1].to("cpu", torch.float32, copy=True)
