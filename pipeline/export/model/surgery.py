"""Interventions as weight edits of a loaded model (paper, section 4.1)."""

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ActivationAddition, orthogonalize_
from pipeline.model import writers
from pipeline.model.loading.loading import ChatModel
from pipeline.model.sites import Sites


def untie(model: ChatModel) -> bool:
    """Give `lm_head` its own copy of a tied embedding; True when it was tied.

    Orthogonalising a tied embedding would also change the unembedding, and the model would no
    longer equal directional ablation.
    """
    head = model.sites.head
    tied = is_tied(model)
    if tied:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for config in (model.hf.config, model.hf.config.get_text_config()):
        config.tie_word_embeddings = False
    return tied


def is_tied(model: ChatModel) -> bool:
    """`lm_head` is the token embedding itself."""
    embedding = model.hf.get_input_embeddings()
    return model.sites.head.weight is getattr(embedding, "weight", None)


def is_editable(model: ChatModel) -> bool:
    """All weights are in memory as floating-point numbers, neither on disk nor packed."""
    return all(parameter.is_floating_point() and not parameter.is_meta for parameter in model.hf.parameters())


def _require_untied(model: ChatModel) -> None:
    if is_tied(model):
        raise UserError("lm_head is tied to the embedding, so the edit would change the unembedding too: untie first")


@torch.no_grad()
def orthogonalize_weights(model: ChatModel, direction: Direction) -> list[str]:
    """W_out <- W_out - r_hat r_hat^T W_out for every parameter that writes to the residual stream.

    In place; computed in float64 and stored in the model's dtype. Returns the names of the edited
    parameters. Raises UserError, before any edit, for a model whose head is tied or whose weights are
    on disk or packed, for a direction of another width and for a parameter that the family file does not know.
    """
    _require_untied(model)
    parameters = dict(model.hf.named_parameters())
    accounts = writers.account(parameters, model.sites.family)
    plan = writers.edits(accounts, parameters.__getitem__, direction.r_hat)
    for name, edit in plan.items():
        writers.require_width(name, tuple(parameters[name].shape), edit)
        if parameters[name].is_meta or not parameters[name].is_floating_point():
            raise UserError(
                f"'{name}' is on disk or packed, so it cannot be edited here: export the checkpoint instead"
            )
    for name, edit in plan.items():
        orthogonalize_(parameters[name], edit.removed, edit.axis)
    return list(plan)


@torch.no_grad()
def add_to_weights(model: ChatModel, addition: ActivationAddition) -> str:
    """Activation addition as a weight edit: what the write before block `layer` always adds.

    At layer 0 every token's embedding (or the bias of the norm after it) moves by the vector,
    elsewhere the bias of block `layer - 1`'s MLP output, added to the bias it has, or made. In
    place; the embedding must be untied. Returns the parameter's name. Raises UserError where the
    architecture has no parameter that adds the same to every token.
    """
    layer, family = addition.direction.layer, model.sites.family
    shift = addition.coefficient * addition.direction.vector
    if layer == 0:
        _require_untied(model)
        name = family.embedding.constant
        parameter = model.hf.get_parameter(name)
        shift = shift / (model.sites.embedding_multiplier * _embedding_scale(model.sites))
    else:
        name = f"{family.blocks}.{layer - 1}.{family.mlp.constant}"
        parameter = _constant(model, name) if family.mlp.constant else None
        shift = shift / model.sites.residual_multiplier
    if parameter is None:
        raise UserError(
            f"family '{family.name}' has no parameter in block {layer - 1} that adds the same to every token: "
            "use the live addition"
        )
    parameter.copy_((parameter.double() + shift.to(parameter.device)).to(parameter.dtype))
    return name


def _constant(model: ChatModel, name: str) -> Tensor | None:
    """The parameter, made of zeros where it is the bias that a linear layer lacks."""
    path, _, leaf = name.rpartition(".")
    try:
        owner = model.hf.get_submodule(path)
    except AttributeError:
        return None
    if leaf == "bias" and isinstance(owner, nn.Linear) and owner.bias is None:
        owner.bias = nn.Parameter(owner.weight.new_zeros(owner.out_features), requires_grad=False)
    return getattr(owner, leaf)


def _embedding_scale(sites: Sites) -> float:
    """By what an embedding module multiplies its rows (Gemma: about sqrt(d_model)); 1 for a norm."""
    scale = getattr(sites.embeddings[0], "embed_scale", 1.0)
    return float(scale)
