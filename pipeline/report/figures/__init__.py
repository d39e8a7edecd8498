"""Figures as pure functions of numbers."""
