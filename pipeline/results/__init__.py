"""Typed results that several subjects share: values with a unit, one writer and one reader each."""
