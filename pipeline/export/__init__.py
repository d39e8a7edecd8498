"""Weight orthogonalization: the model without the direction, and the proof that it is that."""
