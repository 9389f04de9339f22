"""Preprocessing: see whether batches need a correction, and integrate them into one embedding."""

from scbatchnorm.pp._assess import assess
from scbatchnorm.pp._integrate import integrate

__all__ = ["assess", "integrate"]
