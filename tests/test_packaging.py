"""The files around the package agree with each other."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    used = set(re.findall(r"\bmake ([\w-]+)", (ROOT / script).read_text()))
    assert {"test", "test-slow", "lint", "docs"} <= used <= makefile_targets()


def test_continuous_integration_calls_the_test_command_of_the_readme():
    (command,) = re.findall(r"^\$ (make test[^#\n]*?) *(?:#.*)?$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_test_is_run_by_one_of_the_two_targets():
    makefile = (ROOT / "Makefile").read_text()
    assert "-m '$(QUICK)'\n" in makefile
    assert "-m 'not ($(QUICK))'\n" in makefile


def test_ci_script_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_make_names_the_way_out_when_there_is_no_python(tmp_path):
    command = ["make", "-f", str(ROOT / "Makefile"), "venv", "PYTHON=no-such-python"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "Name a Python 3.11 or newer: make PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_checksums_of_the_data_folder():
    readme = (ROOT / "data" / "README.md").read_text()
    for path in (ROOT / "data").glob("*.h5ad"):
        assert path.stat().st_size < 300_000
        assert hashlib.sha256(path.read_bytes()).hexdigest() in readme


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_files_that_name_the_version_agree():
    citation, entry = (yaml.safe_load((ROOT / name).read_text()) for name in ("CITATION.cff", ".scverse/meta.yaml"))
    assert str(citation["version"]) == str(entry["version"]) == project()["version"]
    assert citation["license"] == entry["license"] == project()["license"] == "BSD-3-Clause"
    assert citation["repository-code"] == entry["project_home"] == project()["urls"]["Homepage"]
    assert citation["url"] == entry["documentation_home"] == project()["urls"]["Documentation"]


def test_citation_has_what_the_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert all("name" in author or "family-names" in author for author in citation["authors"])


def test_entry_of_the_registry():
    """Required fields and vocabulary of scverse/ecosystem-packages, as of August 2026."""
    entry = yaml.safe_load((ROOT / ".scverse" / "meta.yaml").read_text())
    required = {"name", "description", "project_home", "documentation_home", "install", "license", "tags", "category"}
    assert required | {"primary_category", "language", "version", "contact"} <= set(entry)
    assert entry["install"] == {"pypi": project()["name"]}
    assert entry["category"] == "ecosystem"
    assert entry["primary_category"] == "scRNA-seq"
    assert entry["language"] == "Python"
    known = {
        "scRNA-seq",
        "preprocessing",
        "data integration",
        "dimensionality reduction",
        "benchmarking",
        "deep learning",
    }
    assert len(entry["tags"]) == len(set(entry["tags"])) > 0
    assert set(entry["tags"]) <= known
    assert entry["contact"]
    assert entry["test_command"].removeprefix("make ") in makefile_targets()


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_release_is_checked_before_it_is_published():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert not [step for step in jobs["publish"]["steps"] if "password" in step.get("with", {})]
    runs = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert ".ci/check-dist --demo" in runs
    assert os.access(ROOT / ".ci" / "check-dist", os.X_OK)
    (compared,) = [run for run in runs if "$TAG" in run]
    for tag, expected in ((f"v{project()['version']}", 0), (project()["version"], 1), ("v0.0.0", 1)):
        bash = compared.replace("python -c", f"{sys.executable} -c")
        done = subprocess.run(
            ["bash", "-ec", bash],
            cwd=ROOT,
            env={**os.environ, "TAG": tag},
            check=False,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == expected


def test_links_of_the_readme_lead_somewhere_on_the_package_index():
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"][
        "fancy-pypi-readme"
    ]
    text = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / link).exists(), link
    for change in hook["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    assert not re.findall(r"\]\((?!https?:|#)[^)]*\)|<img [^>]*src=[\"'](?!https?:)", text)
    assert "](https://raw.githubusercontent.com/scbatchnorm/scbatchnorm/v$HFPR_VERSION/docs/demo.png)" in text


@pytest.mark.parametrize("path", [".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/question.yml"])
def test_issue_forms_ask_something(path):
    form = yaml.safe_load((ROOT / path).read_text())
    assert {"name", "description", "body"} <= set(form)
    assert [part["attributes"]["label"] for part in form["body"]]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", ".scverse/CHECKLIST.md"])
def test_files_that_are_named_exist(name):
    """In links, and in backticks where they look like a path."""
    text = (ROOT / name).read_text()
    named = re.findall(r"\]\((?!https?:)([^)#]+)\)", text) + re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.\w+)`", text)
    missing = [path for path in named if "<" not in path and not (ROOT / path).exists()]
    assert not missing


def test_tests_that_hold_the_promises_exist():
    """Each of them is run by `make test` or `make test-slow`, as all are."""
    ours = (ROOT / "docs" / "PROMISES.md").read_text().partition("## Beside others")[0]
    named = set(re.findall(r"`(tests/[^`]+)`", ours))
    assert len(named) > 20
    assert not [path for path in named if not list(ROOT.glob(path))]


def test_what_breaks_elsewhere_is_not_required():
    """Other integrators, JAX, R, libraries of nearest neighbours that crash: nobody needs them for this package."""
    required = {normalized(r) for r in project()["dependencies"]}
    others = {"harmonypy", "scanorama", "bbknn", "scvi-tools", "scib", "scib-metrics", "mnnpy", "annoy", "faiss-cpu"}
    assert not required & (others | {"jax", "jaxlib", "rpy2"})
    suffixes = {path.suffix for path in (ROOT / "scbatchnorm").rglob("*") if path.is_file()}
    assert not suffixes & {".c", ".cc", ".cpp", ".cu", ".pyx", ".so", ".R", ".rs"}
