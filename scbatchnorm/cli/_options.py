"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_input(parser: argparse.ArgumentParser, content: str) -> None:
    """The file that is read; `content` says what it holds."""
    parser.add_argument("input", type=Path, help=f"{content}, .h5ad or .zarr")


def add_output(parser: argparse.ArgumentParser) -> None:
    """The AnnData file that is written."""
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", required=True, help="file to write, .h5ad or .zarr"
    )


def add_figure(parser: argparse.ArgumentParser, content: str) -> None:
    """The picture that is written, see `_files.FIGURE_SUFFIXES`."""
    parser.add_argument("--figure", type=Path, metavar="FILE", help=f"draw {content}, .png, .pdf or .svg")


def add_batch_key(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    """One or several columns, see `one_or_all`; required unless `default` says what holds without it."""
    text = "column of obs with the batch; give it again to combine columns"
    parser.add_argument(
        "--batch-key", action="append", metavar="COLUMN", required=default is None,
        help=text if default is None else f"{text} (default: {default})",
    )  # fmt: skip


def add_label_key(parser: argparse.ArgumentParser, *, use: str = "") -> None:
    """Column with cell types; `use` says what they are used for."""
    parser.add_argument("--label-key", metavar="COLUMN", help=f"column of obs with the cell type{use}")


def add_covariate_key(parser: argparse.ArgumentParser) -> None:
    """Columns that are checked for confounding."""
    parser.add_argument(
        "--covariate-key", action="append", default=[], metavar="COLUMN",
        help="column of obs that a correction must not remove, such as condition; give it again for more",
    )  # fmt: skip


def add_control_gene(parser: argparse.ArgumentParser) -> None:
    """Genes for the diagnosis."""
    parser.add_argument(
        "--control-gene", action="append", default=[], metavar="GENE",
        help="gene whose differences between cells of a batch should stay; give it again for more",
    )  # fmt: skip


def add_unintegrated(parser: argparse.ArgumentParser) -> None:
    """Representation that is compared with the integration."""
    parser.add_argument(
        "--unintegrated", default="X_pca", metavar="KEY",
        help="principal components before integration, in obsm (default: %(default)s)",
    )  # fmt: skip


def add_key(parser: argparse.ArgumentParser, *, where: str = "") -> None:
    """Name of an integration of this package, if a file may hold several."""
    parser.add_argument("--key", metavar="KEY", help=f"which integration{where}: its --key-added")


def add_layer(parser: argparse.ArgumentParser) -> None:
    """Layer with expression."""
    parser.add_argument("--layer", metavar="KEY", help="layer to use instead of X")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Seed of everything random."""
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of random numbers (default: %(default)s)"
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Whether files may be replaced, see `_files.check_target`."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def add_lazy(parser: argparse.ArgumentParser) -> None:
    """How the input is read, see `_source.read_source`."""
    parser.add_argument(
        "--lazy", action=argparse.BooleanOptionalAction,
        help="read expression in blocks, it need not fit in memory (default: if it takes more than a quarter of the free memory)",
    )  # fmt: skip


def one_or_all(values: list[str]) -> str | list[str]:
    """Return the single value of an option that was given once, else all values."""
    return values[0] if len(values) == 1 else values
