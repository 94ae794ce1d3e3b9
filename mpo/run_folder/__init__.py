"""The run folder: where everything is, and how it is written and read."""
