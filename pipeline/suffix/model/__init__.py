"""What is read, restored and searched on a live model."""
