"""Access to chat models: the only package that imports transformers or nnsight."""
