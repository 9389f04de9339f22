"""Tools: what can be said about integrated data, and what can be done with the fitted model."""

from scbatchnorm.tl._concordance import concordance
from scbatchnorm.tl._correct import correct
from scbatchnorm.tl._diagnose import diagnose
from scbatchnorm.tl._map_query import map_query
from scbatchnorm.tl._mixing import mixing

__all__ = ["concordance", "correct", "diagnose", "map_query", "mixing"]
