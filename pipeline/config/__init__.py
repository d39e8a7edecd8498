"""The one place that knows what a configuration holds, how it is composed, and which values are allowed."""
