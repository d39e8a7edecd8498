"""Judges that are language models: what each is asked, and how its answers are read."""
