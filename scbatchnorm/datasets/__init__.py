"""Data to try things on: public benchmark sets by name, and toy data whose truth is known.

All have the columns `batch` and `cell_type` in `obs`. The toy data, simulated counts and real cells with planted
batch effects, have the disturbed values in `X` and, for the same cells, the undisturbed ones in `layers["truth"]`.
"""

from scbatchnorm.datasets._planted import pbmc_planted
from scbatchnorm.datasets._public import available, load
from scbatchnorm.datasets._simulated import simulate_batches

__all__ = ["available", "load", "pbmc_planted", "simulate_batches"]
