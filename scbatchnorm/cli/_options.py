"""Options that mean the same in every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_batch_key(parser: argparse.ArgumentParser) -> None:
    """One or several columns, see `one_or_all`."""
    parser.add_argument(
        "--batch-key", action="append", required=True, metavar="COLUMN",
        help="column of obs with the batch; give it again to combine columns",
    )  # fmt: skip


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Whether files may be replaced, see `_files.check_target`."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def one_or_all(values: list[str]) -> str | list[str]:
    """What functions take for an option that was given once, or several times."""
    return values[0] if len(values) == 1 else values
