"""The command line: each command is a thin layer over a function of the package.

A command is a module with `HELP`, `DESCRIPTION`, `add_options` and `run`, named in `_main.COMMANDS`. Packages that take
seconds to import, such as torch, are imported inside functions: help and errors of options do not need them.
"""

from scbatchnorm.cli._main import main

__all__ = ["main"]
