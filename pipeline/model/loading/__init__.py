"""From a model's source to a loaded, checked model."""
