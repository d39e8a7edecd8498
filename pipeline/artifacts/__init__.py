"""Files: the only package that knows their names and formats."""
