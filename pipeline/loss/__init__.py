"""Cross-entropy of harmless text under interventions."""
