"""What the pipeline costs, side by side with the plain way of doing the same."""
