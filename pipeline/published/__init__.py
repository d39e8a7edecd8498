"""The paper's published results, computed again."""
