"""What the pipeline costs on this machine, side by side with plain ways of doing the same."""
