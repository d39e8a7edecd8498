"""Pure functions of tensors: attribution by head, paired changes, proposals of a search."""
