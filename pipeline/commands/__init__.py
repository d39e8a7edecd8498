"""One short module per DVC stage: read, load, call, save."""
