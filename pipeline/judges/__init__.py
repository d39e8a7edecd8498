"""Judges: a completion in, a verdict out."""
