"""Instructions: loading, deduplicating, splitting and auditing them."""
