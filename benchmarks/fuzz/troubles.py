"""What goes wrong on purpose, so that the tests can see whether the other modules notice."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.fuzz import killing
from scbatchnorm import BatchNormAutoencoder

if TYPE_CHECKING:
    from pathlib import Path


class Troubles:
    """A judge whose cases end badly."""

    kinds = ("fine", "crash", "hang", "memory", "error")

    def kind(self, number: int) -> str:
        """How the case ends."""
        return self.kinds[number]

    def __call__(self, number: int) -> tuple[str, str]:
        """End like that."""
        kind = self.kind(number)
        if kind == "crash":
            os.abort()
        if kind == "hang":
            time.sleep(60)
        if kind == "memory":
            np.ones(2**40)
        if kind == "error":
            raise OSError(kind)
        return "fine", ""


def careless(place: killing.Place, target: Path) -> None:
    """Write a model to `target` without any care, and come no further than half of it."""
    data = target.read_bytes()
    BatchNormAutoencoder.load(target)
    place.now.value = killing.PLACES.index("writing")
    target.write_bytes(data[: len(data) // 2])
    place.visits[place.now.value] += 1
    time.sleep(60)
