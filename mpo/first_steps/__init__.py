"""What a new user meets first: a recipe of one's own, what this machine can run, and names that the shell completes."""
