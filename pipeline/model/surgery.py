"""Weight orthogonalization of a loaded model (paper, section 4.1)."""

import torch
from torch import nn

from pipeline.maths.directions import Direction
from pipeline.maths.interventions import ablate, orthogonalize
from pipeline.model.loading import ChatModel


def untie(model: ChatModel) -> bool:
    """Give `lm_head` its own copy of a tied embedding; True when it was tied.

    Orthogonalising a tied embedding would also change the unembedding, and the model would no
    longer equal directional ablation.
    """
    head = model.sites.head
    tied = head.weight.data_ptr() == model.sites.embedding.weight.data_ptr()
    if tied:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    model.hf.config.tie_word_embeddings = False
    return tied


@torch.no_grad()
def orthogonalize_weights(model: ChatModel, direction: Direction) -> list[str]:
    """W_out <- W_out - r_hat r_hat^T W_out for every matrix and bias that writes to the residual stream.

    In place, on a model whose embedding is untied; computed in float64 and stored in the model's
    dtype. Returns the names of the edited parameters.
    """
    r_hat = direction.r_hat.to(model.device)
    embedding = model.sites.embedding
    assert model.sites.head.weight.data_ptr() != embedding.weight.data_ptr(), "untie first"
    embedding.weight.copy_(ablate(embedding.weight, r_hat))
    edited = [f"{model.sites.family.embedding}.weight"]
    for name, layer in model.sites.output_layers():
        layer.weight.copy_(orthogonalize(layer.weight, r_hat))
        edited.append(f"{name}.weight")
        if layer.bias is not None:
            layer.bias.copy_(ablate(layer.bias, r_hat))
            edited.append(f"{name}.bias")
    return edited
