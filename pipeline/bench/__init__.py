"""Measurements of this machine: how fast the pipeline is, against plain algorithms on the same model and prompts."""
