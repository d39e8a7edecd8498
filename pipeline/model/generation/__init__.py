"""Answers, greedy or drawn."""
