"""The data that the safety probe is fitted on and held against."""
