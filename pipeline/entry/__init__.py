"""What programs share: how they start, what they say, and how they end."""
