"""Many isolated runs of the graph."""
