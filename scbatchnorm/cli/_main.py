"""Entry point: runs the command, and turns errors into a line on stderr and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import warnings
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Modules of this package, in the order of the help text.
COMMANDS = ("demo", "assess", "integrate", "evaluate", "map", "correct", "diagnose", "report")
_USER_ERROR, _INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for errors that the user can correct, 130 after Ctrl-C."""
    args = build_parser().parse_args(argv)
    try:
        with _plain_warnings(), _logging_to_stderr(verbose=args.verbose):
            return args.run(args)
    except KeyboardInterrupt as interrupt:
        print("; ".join(["scbatchnorm: interrupted, nothing was written", *map(str, interrupt.args)]), file=sys.stderr)
        return _INTERRUPTED
    except (KeyError, ValueError, OSError, ImportError, ArithmeticError) as error:
        # str() of a KeyError is the repr of its message.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        _print_line("error", text)
        return _USER_ERROR


def build_parser() -> argparse.ArgumentParser:
    """Parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="scbatchnorm",
        description="Correct batch effects in single-cell data.",
        epilog="'scbatchnorm COMMAND --help' explains a command. To see it work: scbatchnorm demo",
    )
    parser.add_argument("--version", action="version", version=f"scbatchnorm {version('scbatchnorm')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = import_module(f"scbatchnorm.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        module.add_options(command)
        command.add_argument("-v", "--verbose", action="store_true", help="log what is done")
        command.set_defaults(run=module.run)
    return parser


def _print_line(what: str, text: object) -> None:
    """Print one line to stderr."""
    print(f"scbatchnorm: {what}: {' '.join(str(text).splitlines())}", file=sys.stderr)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show warnings without the line of code that they point at, which is not the user's."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _print_line("warning", message)
        yield


@contextlib.contextmanager
def _logging_to_stderr(*, verbose: bool) -> Iterator[None]:
    """Show messages of the package during a command."""
    package = logging.getLogger("scbatchnorm")
    if not verbose:
        yield
        return
    handler, level = logging.StreamHandler(), package.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
