"""Reading what training is made of: prompts, pairs compared elsewhere, encoded pairs."""
