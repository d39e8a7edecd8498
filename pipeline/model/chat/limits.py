"""What a model can read: how many tokens in one prompt, and which."""

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.errors import UserError


def context_length(hf: PreTrainedModel) -> int | None:
    """Tokens that the model was made to read; None where its configuration does not say."""
    limit = getattr(hf.config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else None


def n_rows(hf: PreTrainedModel) -> int:
    """Rows of the token embedding."""
    return int(hf.get_input_embeddings().weight.shape[0])  # type: ignore[arg-type, union-attr]


def pad_id(tokenizer: PreTrainedTokenizerBase, hf: PreTrainedModel) -> int:
    """The id that fills padding; its value never matters, since padding is masked, as long as there is such a row."""
    rows = n_rows(hf)
    found = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(id_ for id_ in found if isinstance(id_, int) and 0 <= id_ < rows)


def require_readable(model: str, hf: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
    """Raises UserError when a prompt has a token that the model has no row for, or more tokens than it reads."""
    rows, limit = n_rows(hf), context_length(hf)
    highest = max((token for prompt in prompts for token in prompt), default=0)
    if highest >= rows:
        raise UserError(
            f"model '{model}': token {highest} of the prompt, {rows} rows: its tokenizer has tokens that its embedding "
            "lacks; use the tokenizer it was trained with, or resize its embedding"
        )
    longest = max(map(len, prompts), default=0)
    if limit is not None and longest > limit:
        long = sum(len(prompt) > limit for prompt in prompts)
        raise UserError(
            f"model '{model}': {long} of {len(prompts)} prompts are longer than it reads: the longest has {longest} "
            f"tokens, the limit is {limit} (max_position_embeddings): leave long instructions out"
        )
