"""The environments of `make test-matrix`: what they hold, and what is said of them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "test_matrix.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("matrix_of_versions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(path: str) -> dict[str, Version]:
    lines = [line.split("#")[0].strip() for line in (ROOT / path).read_text().splitlines()]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines if line)
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines if line)}


def test_lowest_is_what_pyproject_declares():
    """Raise both together: a bound that no test runs with is a guess."""
    bounds: dict[str, Version] = {}
    # Of a package that is in both, an extra may ask for a newer one.
    for requirement in map(Requirement, [*EXTRAS["leiden"], *EXTRAS["scale"], *PROJECT["dependencies"]]):
        (bound,) = requirement.specifier
        assert bound.operator == ">="
        bounds[canonicalize_name(requirement.name)] = Version(bound.version)
    lowest = pins("constraints/lowest.txt")
    assert {name: lowest[name] for name in bounds} == bounds


@pytest.mark.parametrize("name", ["latest", "lowest"])
def test_every_requirement_of_the_tests_is_pinned(script, name):
    held = pins(script.ENVIRONMENTS[name].constraints)
    for requirement in map(Requirement, [*PROJECT["dependencies"], *EXTRAS["dev"]]):
        assert requirement.specifier.contains(held[canonicalize_name(requirement.name)]), requirement


def test_versions_that_are_promised(script):
    """Both generations of what breaks most, between all environments."""
    held = [pins(environment.constraints) for environment in script.ENVIRONMENTS.values() if environment.constraints]
    promised: dict[str, set[tuple[int, ...]]] = {
        "numpy": {(2,)},
        "pandas": {(2,), (3,)},
        "anndata": {(0, 12), (0, 13)},
        "scanpy": {(1, 11), (1, 12)},
    }
    for package, generations in promised.items():
        width = len(next(iter(generations)))
        assert {env[package].release[:width] for env in held} == generations, package


def test_pythons_are_those_of_the_classifiers(script):
    said = {text.split(" :: ")[-1] for text in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", text)}
    assert {environment.python for environment in script.ENVIRONMENTS.values()} == said


def test_workflow_runs_every_environment(script):
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    found = dict(re.findall(r'- environment: (\w+)\n +python: "([\d.]+)"', workflow))
    named = set(re.findall(r"ENVS=(\w+)", workflow))
    assert found == {name: script.ENVIRONMENTS[name].python for name in ("latest", "lowest")}
    assert {*found, *named, "pinned"} == set(script.ENVIRONMENTS)
    assert script.ENVIRONMENTS["pinned"] == ("3.11", "constraints.txt"), "what `make test` runs with"


def test_a_missing_interpreter_is_skipped(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "interpreter", lambda version: None)
    monkeypatch.setattr(sys, "argv", ["test-matrix", "latest", "lowest"])
    assert script.main() == 0
    assert "latest    skipped: no Python 3.12 here\nlowest    skipped: no Python 3.11 here\n" in capsys.readouterr().out


def test_failures_are_summed_up(script, monkeypatch, capsys):
    """One environment that cannot be built, and one whose tests fail, do not keep the others from being run."""
    finds = {"pinned": "true", "latest": "false"}

    def built(name, python):
        if name == "lowest":
            raise subprocess.CalledProcessError(1, ["pip", "install"])
        return finds[name]

    monkeypatch.setattr(script, "interpreter", lambda version: sys.executable)
    monkeypatch.setattr(script, "built", built)
    monkeypatch.setattr(script, "versions", lambda python: "numpy 2.0.0")
    monkeypatch.setattr(sys, "argv", ["test-matrix", "--pytest-args=-n 2 -q"])
    assert script.main() == 1
    out = capsys.readouterr().out
    assert (
        "pinned    passed: numpy 2.0.0\nlatest    failed: numpy 2.0.0\nlowest    failed: not installed (pip install)\n"
        in out
    )


def test_unknown_environments_are_named(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["test-matrix", "lates"])
    with pytest.raises(SystemExit):
        script.main()
    assert "no environment is called lates; environments: pinned, latest, lowest, unpinned" in capsys.readouterr().err


def test_interpreters_are_tried(script):
    """A launcher may be there for a version that is not."""
    assert script.interpreter("2.99") is None
    own = script.interpreter(f"{sys.version_info.major}.{sys.version_info.minor}")
    done = subprocess.run(
        [own, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split()[0].rsplit(".", 1)[0] == f"{sys.version_info.major}.{sys.version_info.minor}"
