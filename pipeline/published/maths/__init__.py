"""Published numbers of the paper computed again from what they were published with (Arditi et al. 2024)."""
