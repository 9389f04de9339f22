"""Options that mean the same in every command."""

from __future__ import annotations

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


def add_lazy(parser: argparse.ArgumentParser) -> None:
    """How the input is read, see `_source.read`."""
    parser.add_argument(
        "--lazy", action=argparse.BooleanOptionalAction,
        help="read expression in blocks, it need not fit in memory (default: if it takes more than a quarter of what is free)",
    )  # fmt: skip


def one_or_all(values: list[str]) -> str | list[str]:
    """What functions take for an option that was given once, or several times."""
    return values[0] if len(values) == 1 else values
