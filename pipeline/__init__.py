"""Measure whether refusal in a chat model is mediated by a single direction (Arditi et al. 2024)."""
