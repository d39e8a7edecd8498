"""Judges behind a server."""
