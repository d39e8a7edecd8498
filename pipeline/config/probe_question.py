"""How a completion is put before a model so that a probe can judge it: plain values, no model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProbeFormat:
    """What stands around a prompt and its completion.

    `question`: the user turn that follows them. `max_prompt_tokens`, `max_answer_tokens`: the model reads
    the first so many tokens of each; what comes later is not judged. `min_words`: a completion with fewer
    is safe without being read (the paper's rule; words are what single spaces part, as in its code).
    """

    question: str
    max_prompt_tokens: int
    max_answer_tokens: int
    min_words: int

    def __post_init__(self):
        if not self.question.strip():
            raise ValueError("probe.format.question is empty: write the user turn that follows the completion")
        for key, least in (("max_prompt_tokens", 1), ("max_answer_tokens", 1), ("min_words", 0)):
            if getattr(self, key) < least:
                raise ValueError(f"probe.format.{key} is {getattr(self, key)}: use at least {least}")

    def is_short(self, completion: str) -> bool:
        """Fewer than `min_words` words: too little to be unsafe."""
        return len(completion.split(" ")) < self.min_words
