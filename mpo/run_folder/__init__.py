"""The run folder: where everything lies, and how it is written and read."""
