"""Adversarial suffixes. Apart from maths and model of the rest, so that a change re-runs stage suffix alone."""
