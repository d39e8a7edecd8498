"""From an instruction to tokens: chat templates, and what they do to what a user writes."""
