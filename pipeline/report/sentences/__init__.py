"""Generated sentences."""
