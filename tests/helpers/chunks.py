"""The files of zarr arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def chunks(array: Path) -> list[Path]:
    """The files of values: "0" or "0.0" in version 2 of zarr, "c/0" or "c/0/0" in version 3."""
    return [file for file in sorted(array.rglob("[0-9]*")) if file.is_file()]


def a_chunk(array: Path) -> Path:
    """The first of them."""
    return chunks(array)[0]
