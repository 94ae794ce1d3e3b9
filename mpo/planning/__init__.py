"""What a recipe will do and need, computed before anything is loaded, and how it is made to fit."""
