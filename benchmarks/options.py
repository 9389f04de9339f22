"""What commands have in common: their options, and how they write their tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

EXAMPLE = Path(__file__).resolve().parents[1] / "data" / "simulated_3batches.h5ad"
_RESULTS = Path("benchmarks/results")


class Parser(argparse.ArgumentParser):
    """Command line of `python -m benchmarks.NAME`, described by the first line of the docstring of its module."""

    def __init__(self, name: str, doc: str | None) -> None:
        super().__init__(prog=f"python -m benchmarks.{name}", description=(doc or "").splitlines()[0])

    def add_files(self, *, optional: bool = False, default: Sequence[Path] = ()) -> None:
        """The data: h5ad files, and the columns with batch and cell type."""
        text = "counts in X" + "".join(f"; default: {path.name}" for path in default)
        nargs = "*" if optional or default else "+"
        self.add_argument("files", nargs=nargs, type=Path, default=list(default), metavar="FILE.h5ad", help=text)
        self.add_argument("--batch-key", default="batch", help="column of obs with the batch (default: batch)")
        text = "column of obs with the type (default: cell_type)"
        self.add_argument("--label-key", default="cell_type", help=text)

    def add_choice(self, option: str, choices: Sequence[str], text: str, default: Sequence[str] | None = None) -> None:
        """One or several of some words."""
        self.add_argument(
            option, nargs="+", choices=choices, default=list(default or choices), metavar="NAME",
            help=f"{text}: {', '.join(choices)} (default: {'all' if default is None else ' '.join(default)})",
        )  # fmt: skip

    def add_number(self, option: str, default: Any, text: str) -> None:
        """A number, of the type of its default."""
        self.add_argument(option, type=type(default), default=default, help=f"{text} (default: {default:g})")

    def add_output(self, *names: str) -> None:
        """The folder in which tables of these names are written."""
        text = f"folder for {', '.join(f'{name}.csv' for name in names)} and {names[0]}.md (default: {_RESULTS})"
        self.add_argument("-o", "--output", type=Path, default=_RESULTS, help=text)

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The options; files must be there, and their names must tell them apart."""
        options = self.parse_args(arguments)
        files = getattr(options, "files", [])
        if absent := [str(path) for path in files if not path.is_file()]:
            self.error(f"no such file: {', '.join(absent)}")
        if len({path.stem for path in files}) < len(files):
            self.error("the files must have different names, for a data set is called after its file")
        return options


def write(options: argparse.Namespace, name: str, table: pd.DataFrame, text: str | None = None) -> None:
    """Write a table, and what is said of it; called after every file, so that an interrupted run keeps what it has."""
    options.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.output / f"{name}.csv", index=isinstance(table.index[0], tuple), float_format="%.5f")
    if text is not None:
        (options.output / f"{name}.md").write_text(text)
