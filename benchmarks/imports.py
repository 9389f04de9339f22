"""Processor seconds that importing the package adds to importing torch and scanpy, and what it loads beyond those two.

python -m benchmarks.imports
"""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import report
from benchmarks.options import Parser

if TYPE_CHECKING:
    import argparse

_BASE = "torch, scanpy"
# The parts are loaded when they are first asked for. The first optimiser of a process loads torch's compiler, whatever is
# trained; with the parts that happens on import, so that it is not taken for the time of a fit.
_IMPORTS = {
    "nothing else": _BASE,
    "scbatchnorm": f"{_BASE}, scbatchnorm",
    "scbatchnorm and all its parts": f"{_BASE}, "
    + ", ".join(f"scbatchnorm.{part}" for part in ("datasets", "metrics", "nn", "pl", "pp", "tl")),
    "torch's compiler": f"{_BASE}, torch._dynamo",
}
_CODE = """
import sys, time
start = time.process_time()
import {}
seconds = time.process_time() - start
import json
print(json.dumps([seconds, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""
_LIMIT = 1.3


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = Parser("imports", __doc__)
    parser.add_number("--turns", 7, "processes of each kind, in turn")
    return parser.parse(arguments)


def fresh(names: str) -> tuple[float, set[str]]:
    """Processor seconds of `import names` in a process of its own, and the packages that are loaded then."""
    done = subprocess.run([sys.executable, "-c", _CODE.format(names)], capture_output=True, text=True, check=True)
    seconds, packages = json.loads(done.stdout)
    return seconds, set(packages)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; exit status 1 if `import scbatchnorm` is not below the limit."""
    options = parse(arguments)
    fresh(_IMPORTS["scbatchnorm and all its parts"])  # files are read from the disk once
    runs = [{name: fresh(modules) for name, modules in _IMPORTS.items()} for _ in range(options.turns)]
    seconds = {name: median(run[name][0] for run in runs) for name in _IMPORTS}
    base = seconds["nothing else"]
    print(f"import {_BASE}: {base:.2f} s of processor time")
    for name in [name for name in _IMPORTS if name != "nothing else"]:
        print(f"and {name}: {seconds[name]:.2f} s, {seconds[name] / base:.2f} times that")
    print(f"median of {options.turns} processes each; {report.environment(['torch', 'scanpy', 'scbatchnorm'])}")
    beside = runs[0]["scbatchnorm and all its parts"][1] - runs[0]["torch's compiler"][1] - {"scbatchnorm"}
    print(f"packages that the parts load beside torch, its compiler and scanpy: {', '.join(sorted(beside)) or 'none'}")
    return int(seconds["scbatchnorm"] / base >= _LIMIT)


if __name__ == "__main__":
    sys.exit(main())
