"""The command line: each command is a thin layer over a function of the package.

A command is a module with `HELP`, `DESCRIPTION`, `add_options` and `run`, and its name in `_main`. Heavy imports are
inside functions, so that help and wrong options answer at once.
"""

from scbatchnorm.cli._main import main

__all__ = ["main"]
