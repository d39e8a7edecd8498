"""Greedy answers."""
