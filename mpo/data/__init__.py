"""Reading what training needs: prompts, pairs compared elsewhere, encoded pairs."""
