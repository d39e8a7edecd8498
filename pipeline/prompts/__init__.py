"""Instructions: loading, deduplicating, splitting and auditing them."""

from pipeline.prompts.build import PromptSets, build
from pipeline.prompts.prompt import Prompt

__all__ = ["Prompt", "PromptSets", "build"]
