"""People's votes on a finished run: base against tuned, blind."""
