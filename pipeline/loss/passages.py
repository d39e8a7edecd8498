"""The three sets of texts whose loss is measured, as passages of a model's tokens."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pipeline.loss.model import Documents, answers, documents
from pipeline.model.loading.loading import ChatModel
from pipeline.prompts.prompt import Prompt, Text


def passages(
    model: ChatModel,
    plain: Sequence[Text],
    answered: Sequence[Text],
    own: Mapping[Prompt, str],
    max_tokens: int,
    max_answer_tokens: int,
) -> dict[str, Documents]:
    """Plain texts, answered instructions, and the model's own completions by prompt; a set without any is left out.

    At most `max_tokens` of a plain text and `max_answer_tokens` of an answer count.
    """
    pairs = {
        "instruction_answers": [(row.instruction, row.text) for row in answered],
        "own_completions": [(prompt.instruction, completion) for prompt, completion in own.items()],
    }
    sets = {name: answers(model, rows, max_answer_tokens) for name, rows in pairs.items() if rows}
    if plain:
        sets["plain_text"] = documents(model, [row.text for row in plain], max_tokens)
    origins = {"plain_text": plain, "instruction_answers": answered, "own_completions": list(own)}
    return {name: Documents(rows, Counter(row.source for row in origins[name])) for name, rows in sets.items() if rows}
