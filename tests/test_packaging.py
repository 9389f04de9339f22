"""The files around the package agree with each other."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONSTRAINTS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def normalized(requirement: str) -> str:
    """The name in a requirement, as package indexes compare names."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_package_is_typed():
    assert (ROOT / "scbatchnorm" / "py.typed").is_file()


def test_constraints_are_exact_and_portable():
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in CONSTRAINTS)
    assert "torch==2.13.0" in CONSTRAINTS


def test_constraints_cover_every_declared_requirement():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    assert {normalized(r) for r in declared} <= {normalized(line) for line in CONSTRAINTS}


def test_clustering_packages_are_extras_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not {"igraph", "leidenalg"} & {normalized(r) for r in project["dependencies"]}


@pytest.mark.parametrize("script", [".ci/run", ".github/workflows/ci.yml"])
def test_continuous_integration_calls_existing_targets(script):
    used = set(re.findall(r"\bmake (\w+)", (ROOT / script).read_text()))
    defined = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"test", "lint"} <= used <= defined


def test_ci_script_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_make_names_the_way_out_when_there_is_no_python(tmp_path):
    command = ["make", "-f", str(ROOT / "Makefile"), "venv", "PYTHON=no-such-python"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Name a Python 3.11 or newer: make PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_checksums_of_the_data_folder():
    readme = (ROOT / "data" / "README.md").read_text()
    for path in (ROOT / "data").glob("*.h5ad"):
        assert path.stat().st_size < 300_000
        assert hashlib.sha256(path.read_bytes()).hexdigest() in readme
