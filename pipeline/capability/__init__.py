"""Task scores under interventions: what they cost a model in ability."""
