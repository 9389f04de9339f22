"""Preprocessing: integrate batches into one embedding."""

from scbatchnorm.pp._integrate import integrate

__all__ = ["integrate"]
