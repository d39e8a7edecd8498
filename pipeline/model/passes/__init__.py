"""Forward passes: what is read from them, and what is changed in them."""
