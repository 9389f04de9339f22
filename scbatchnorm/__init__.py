"""Batch-effect correction for single-cell data with an autoencoder trained on minibatches that mix all batches."""

import logging

from scbatchnorm import datasets, nn, pp
from scbatchnorm._model import BatchNormAutoencoder

__all__ = ["BatchNormAutoencoder", "datasets", "nn", "pp"]

# What a library does: the application decides where messages go.
logging.getLogger(__name__).addHandler(logging.NullHandler())
