"""What all commands ask for: columns of the data, and the folder of the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Options for the columns with batch and type."""
    parser.add_argument("--batch-key", default="batch", help="column of obs with the batch (default: batch)")
    parser.add_argument("--label-key", default="cell_type", help="column of obs with the type (default: cell_type)")


def add_output(parser: argparse.ArgumentParser, files: str) -> None:
    """Option for the folder in which `files` are written."""
    default = Path("benchmarks/results")
    text = f"folder for {files} (default: {default})"
    parser.add_argument("-o", "--output", type=Path, default=default, help=text)
