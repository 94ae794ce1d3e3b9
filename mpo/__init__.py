"""Multi-dimensional preference optimisation of text-to-image diffusion models."""

__version__ = "0.1.0"


class MpoError(ValueError):
    """A user's mistake: the message is one line that names field, value and remedy."""
