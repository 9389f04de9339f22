"""Tools: what can be said about integrated data, and what can be done with the fitted model."""

from scbatchnorm.tl._mixing import mixing

__all__ = ["mixing"]
