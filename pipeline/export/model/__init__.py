"""Edits of weights, and their measurement on a live model."""
