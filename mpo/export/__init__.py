"""What leaves a run: the LoRA in the forms that other programs read, its card, a data set."""
