"""The house style of the package, executable: signatures, documentation, layers, side effects."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import scbatchnorm

PACKAGE = Path(scbatchnorm.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
NAMESPACES = ["pp", "tl", "pl", "datasets", "metrics", "nn"]
# Arrays may come first, too: representations, values of cells. So may what is looked at or loaded, and the width of what is built.
FIRST = {
    "adata",
    "data",
    "X",
    "Z",
    "query",
    "scores",
    "table",
    "history",
    "neighbors",
    "model",
    "module",
    "network",
    "n_components",
    "name",
}
# Rooms of the package, from the highest to the lowest: imports point down this list, never up. Those of one line do not know each other.
LAYERS: list[tuple[str, ...]] = [
    ("__main__",),
    ("cli",),
    ("pl",),
    ("pp", "tl"),
    ("_estimator",),
    ("_persistence",),
    ("_method", "metrics", "datasets"),
    ("nn", "_data"),
    ("_runtime",),
]
# Of `_data`: what reads and writes files of anndata.
STORES = {"store_read.py", "store_write.py", "store_copy.py", "dask_blocks.py"}


RUNS_CODE = {"eval", "exec", "compile", "__import__", "torch.load", "torch.save", "pd.read_pickle", "plt.show"}


def module_name(path: Path) -> str:
    parts = ["scbatchnorm", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in SOURCES}


def public_functions():
    for namespace in NAMESPACES:
        if not (PACKAGE / namespace).is_dir() and not (PACKAGE / f"{namespace}.py").is_file():
            continue
        module = importlib.import_module(f"scbatchnorm.{namespace}")
        for name in module.__all__:
            if inspect.isfunction(function := getattr(module, name)):
                yield pytest.param(function, id=f"{namespace}.{name}")


FUNCTIONS = list(public_functions())
PUBLIC = [
    *FUNCTIONS,
    *(
        pytest.param(method, id=f"BatchNormAutoencoder.{name}")
        for name, method in inspect.getmembers(scbatchnorm.BatchNormAutoencoder, callable)
        if not name.startswith("_") and method.__module__.startswith("scbatchnorm")
    ),
]


def on_anndata(function) -> bool:
    """Whether `function` is one of the verbs and pictures, and not made to take arrays or nothing."""
    return function.__module__.split(".")[1] in {"pp", "tl", "pl"}


def required(function) -> list[str]:
    return [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]


def test_functions_are_found():
    assert {"pp.integrate", "datasets.simulate_batches", "datasets.pbmc_planted"} <= {p.id for p in FUNCTIONS}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_few_parameters_are_positional(function):
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    assert len(positional) <= 3
    assert not [p for p in parameters if p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD}], "options have names"
    assert not [p.name for p in positional if isinstance(p.default, bool)], "what True means is said by a name"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_data_come_first(function):
    if required(function) or on_anndata(function):
        assert next(iter(inspect.signature(function).parameters)) in FIRST


@pytest.mark.parametrize("function", FUNCTIONS)
def test_copy_is_that_of_scanpy(function):
    signature = inspect.signature(function)
    if "copy" in signature.parameters:
        copy = signature.parameters["copy"]
        assert copy.kind is copy.KEYWORD_ONLY
        assert copy.default is False
        assert signature.return_annotation == "AnnData | None"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_words_have_one_default(function):
    """What a word means, and what it is without being given, does not differ between functions."""
    house = {"layer": None, "key_added": None, "rng": 0, "ax": None, "device": "auto", "progress": None}
    for name, default in house.items():
        parameter = inspect.signature(function).parameters.get(name)
        if parameter is not None:
            assert parameter.default == default
            assert parameter.kind is parameter.KEYWORD_ONLY


@pytest.mark.parametrize("function", PUBLIC)
def test_everything_is_annotated(function):
    signature = inspect.signature(function)
    unnamed = [
        p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in {"self", "cls"}
    ]
    assert not unnamed
    assert signature.return_annotation is not signature.empty


def sections(text: str) -> dict[str, str]:
    """Sections of a numpydoc text by title."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(section: str) -> set[str]:
    """Names in a section of parameters: lines that are not indented."""
    return {
        name.strip(" *") for line in re.findall(r"^(\S.*)$", section, flags=re.MULTILINE) for name in line.split(",")
    }


def has_parameters(function) -> bool:
    return bool(set(inspect.signature(function).parameters) - {"self", "cls"})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_parameters_are_documented(function):
    text = inspect.getdoc(function)
    assert text
    if has_parameters(function):
        assert documented(sections(text)["Parameters"]) == set(inspect.signature(function).parameters)


def test_parameters_of_the_estimator_are_documented():
    text = inspect.getdoc(scbatchnorm.BatchNormAutoencoder)
    assert text
    parameters = set(inspect.signature(scbatchnorm.BatchNormAutoencoder).parameters)
    assert documented(sections(text)["Parameters"]) == parameters


NORMALISERS = [value for name in scbatchnorm.nn.__all__ if inspect.isclass(value := getattr(scbatchnorm.nn, name))]


@pytest.mark.parametrize("layer", NORMALISERS)
def test_layers_are_documented_and_annotated(layer):
    """Parameters, and all public methods of their own; options are named."""
    signature = inspect.signature(layer)
    assert documented(sections(inspect.getdoc(layer) or "")["Parameters"]) == set(signature.parameters)
    assert not [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert len([p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]) <= 2
    for name, method in inspect.getmembers(layer, inspect.isfunction):
        if not name.startswith("_") and method.__module__.startswith("scbatchnorm"):
            assert inspect.getdoc(method)
            assert inspect.signature(method).return_annotation is not inspect.Signature.empty


def definitions(path: Path):
    """Functions and classes of a module, methods included."""
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.ClassDef)]


def body_lines(function: ast.FunctionDef) -> int:
    """Lines of code, without the docstring."""
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    return (function.end_lineno or 0) - first.lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_functions_fit_on_a_screen(path):
    functions = [node for node in definitions(path) if isinstance(node, ast.FunctionDef)]
    assert not {f.name: body_lines(f) for f in functions if body_lines(f) > 60}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_classes_are_read_in_one_sitting(path):
    """Few methods; what scikit-learn and Python ask for (`__init__`, `__len__`, ...) does not count."""
    for node in definitions(path):
        if isinstance(node, ast.ClassDef):
            methods = [m.name for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("__")]
            assert len(methods) <= 15, node.name


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_source_has_no_shortcuts(path):
    """Nothing that runs code from files, that vanishes under `python -O`, or that prints."""
    tree = ast.parse(path.read_text())
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    assert "__debug__" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & RUNS_CODE
    assert "allow_pickle" not in path.read_text()
    if path.parent != PACKAGE / "cli":
        assert "print" not in called
    assert not {name.split(".")[0] for name in imported(path)} & {
        "pickle",
        "joblib",
        "dill",
        "cloudpickle",
        "marshal",
        "shelve",
        "yaml",
        "skops",
    }
    words = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    comments = [token.string for token in words if token.type == tokenize.COMMENT]
    assert not [comment for comment in comments if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", comment)]


def imported(path: Path, *, types: bool = False) -> set[str]:
    """Full names of what `path` imports: at run time, or with `types` also for type checkers."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            # `from package import module` needs the module; other names need where they are from.
            names |= members if members <= MODULES else {node.module} | members & MODULES
    return names


def room(module: str) -> str:
    """First part below the package: what a layer lists."""
    return module.split(".")[1]


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.parent != PACKAGE or p.name != "__init__.py"], ids=module_name
)
def test_imports_point_down(path):
    """Those for type checkers, too."""
    floor = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    own = room(module_name(path))
    for name in imported(path, types=True):
        if name.startswith("scbatchnorm.") and room(name) != own:
            assert floor[room(name)] > floor[own], f"{module_name(path)} imports {name}"


def test_top_of_the_package_is_short():
    names = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(names) <= 16
    listed = {name for layer in LAYERS for name in layer}
    assert {path.stem for path in names} == listed | {"__init__", "py"}


@pytest.mark.parametrize("room", ["_method", "nn", "_data"])
def test_core_knows_arrays_only(room):
    for path in sorted((PACKAGE / room).rglob("*.py")):
        tops = {name.split(".")[0] for name in imported(path)}
        assert not tops & {"scanpy", "matplotlib"}
        assert "anndata" not in tops or path.name in {"adata.py", *STORES}


def test_private_rooms_import_nothing_by_themselves():
    """The command line prints its help without torch."""
    for path in SOURCES:
        if path.name == "__init__.py" and any(part.startswith("_") for part in path.relative_to(PACKAGE).parts[:-1]):
            assert not imported(path), path


def test_imports_are_no_circle():
    """Those for type checkers, too."""
    modules = {module_name(path): path for path in SOURCES}
    graph = {name: imported(path, types=True) & modules.keys() for name, path in modules.items()}
    # Whoever imports a name from a package needs the module that it is from; the package's own list is no step of its own.
    graph = {
        name: {m for m in needs if m != "scbatchnorm"} - {name}
        for name, needs in graph.items()
        if name != "scbatchnorm"
    }
    while free := [name for name, needs in graph.items() if not needs]:
        graph = {name: needs - set(free) for name, needs in graph.items() if name not in free}
    assert not graph


IMPORT = """
import logging, os, sys, warnings
import torch, numpy as np
threads, torch_state, numpy_state = torch.get_num_threads(), torch.get_rng_state(), np.random.get_state()[1].copy()
environment, root = dict(os.environ), list(logging.getLogger().handlers)
import scanpy, anndata  # what they do is not ours
filters = list(warnings.filters)
environment = dict(os.environ)
import scbatchnorm
own = logging.getLogger("scbatchnorm")
assert [type(handler) for handler in own.handlers] == [logging.NullHandler], own.handlers
assert (own.level, own.propagate) == (logging.NOTSET, True)
assert logging.getLogger().handlers == root
assert torch.get_num_threads() == threads
assert torch.equal(torch.get_rng_state(), torch_state)
assert (np.random.get_state()[1] == numpy_state).all()
assert dict(os.environ) == environment
assert list(warnings.filters) == filters
"""


def test_import_has_no_side_effects():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORT], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_all_names_exist():
    for namespace in ("", *(f".{n}" for n in NAMESPACES)):
        try:
            module = importlib.import_module(f"scbatchnorm{namespace}")
        except ModuleNotFoundError as error:
            if error.name != f"scbatchnorm{namespace}":
                raise
            continue
        assert sorted(module.__all__) == list(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)
