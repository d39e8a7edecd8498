"""Judges that read nothing but the completion."""
