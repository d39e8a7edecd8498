"""golden: the paper's published results computed again. `python -m pipeline golden` starts it, also by hand."""

from pipeline.published.golden import golden

__all__ = ["golden"]
