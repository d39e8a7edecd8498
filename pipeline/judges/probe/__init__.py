"""The embedded judge of safety: its data, its fitting and its file."""
