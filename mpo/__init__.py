"""Multi-dimensional preference optimisation of text-to-image diffusion models."""

__version__ = "0.1.0"


class MpoError(ValueError):
    """An error of the user's making: the message is one line that names field, value and remedy."""
