#!/usr/bin/env python3
"""Build the environments that are supported, run the tests in each, and sum up.

Each lies in .venv-matrix/NAME and is built again when its constraints or pyproject.toml change.
An interpreter that is not there makes its environments "skipped"; any other failure makes the exit status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-matrix"


class Environment(NamedTuple):
    """A version of Python, and the file with the versions of everything else; without one, the newest that pip finds."""

    python: str
    constraints: str | None


ENVIRONMENTS = {
    "pinned": Environment("3.11", "constraints.txt"),
    "latest": Environment("3.12", "constraints/latest.txt"),
    "lowest": Environment("3.11", "constraints/lowest.txt"),
    "unpinned": Environment("3.12", None),
}
USUAL = ("pinned", "latest", "lowest")
TOLD = ("numpy", "pandas", "scipy", "scikit-learn", "anndata", "scanpy", "torch")


def interpreter(version: str) -> str | None:
    """Path of Python `version`, or None. A launcher of pyenv may be there without the version that it launches."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), sys.executable, *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))]
    code = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    for candidate in filter(None, found):
        if subprocess.run([candidate, "-c", code], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def built(name: str, python: str) -> Path:
    """Python of the environment `name`, with the package and the extra "dev" in it."""
    constraints = ENVIRONMENTS[name].constraints
    files = ["pyproject.toml", *([constraints] if constraints else [])]
    content = hashlib.sha256(b"".join((ROOT / file).read_bytes() for file in files)).hexdigest()
    own = FOLDER / name / "bin" / "python"
    stamp = FOLDER / name / "built"
    if constraints is None or not stamp.is_file() or stamp.read_text() != content:
        subprocess.run([python, "-m", "venv", "--clear", str(FOLDER / name)], check=True)
        pip = [str(own), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        pip += ["--constraint", str(ROOT / constraints)] if constraints else []
        # torch first and alone: a build for the CPU that is already there, or that the index offers, then stays.
        subprocess.run([*pip, "torch"], check=True)
        subprocess.run([*pip, "--editable", f"{ROOT}[dev]"], check=True)
        stamp.write_text(content)
    return own


def versions(python: Path) -> str:
    """What is installed of the packages that matter most."""
    code = f"import importlib.metadata as m; print(', '.join(f'{{p}} {{m.version(p)}}' for p in {TOLD!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def outcome(name: str, pytest_args: list[str]) -> str:
    """One environment, from building it to the last test: what the summary says of it."""
    version = ENVIRONMENTS[name].python
    if (found := interpreter(version)) is None:
        return f"skipped: no Python {version} here"
    print(f"== {name}: Python {version}, installing (minutes the first time) ...", flush=True)
    try:
        python = built(name, found)
    except subprocess.CalledProcessError as error:
        return f"failed: not installed ({shlex.join(map(str, error.cmd))})"
    print(f"== {name}: {versions(python)}", flush=True)
    # Two busy cores make OpenMP threads spin instead of sleep; pictures go to files, never to a window.
    settings = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    done = subprocess.run([python, "-m", "pytest", *pytest_args], cwd=ROOT, env=os.environ | settings, check=False)
    return f"{'failed' if done.returncode else 'passed'}: {versions(python)}"


def main() -> int:
    """Run what is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(ENVIRONMENTS)}; default: {' '.join(USUAL)}"
    )
    parser.add_argument("--pytest-args", default="", help="what pytest is called with, as in a shell")
    args = parser.parse_args()
    names = args.names or USUAL
    if unknown := sorted(set(names) - set(ENVIRONMENTS)):
        parser.error(f"no environment is called {', '.join(unknown)}; environments: {', '.join(ENVIRONMENTS)}")

    outcomes = {name: outcome(name, shlex.split(args.pytest_args)) for name in names}
    print("\n" + "\n".join(f"{name:10}{said}" for name, said in outcomes.items()))
    return int(any(said.startswith("failed") for said in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
