"""Pure functions of tensors and numbers: no model, no files."""
