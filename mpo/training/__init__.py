"""The parts of training."""
