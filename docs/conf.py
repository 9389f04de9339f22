"""How sphinx makes the documentation: `make docs`. Needs no network."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
GENERATED = HERE / "generated"

project = "scbatchnorm"
author = "scbatchnorm developers"
copyright = "scbatchnorm developers"
version = release = version_of("scbatchnorm")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_nb",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
root_doc = "index"
default_role = "literal"
nitpicky = True
# Types in signatures are written as in the code; those of other projects, and private ones, are not here to be linked to.
nitpick_ignore_regex = [
    ("py:class", r"(?!scbatchnorm\.(nn\.|metrics\.)?[A-Z]).*"),
    ("py:.*", r"(dask|matplotlib|numpy|pandas|scanpy|scipy|sklearn|torch)\..*"),
]

# Members of classes are listed by the templates of autosummary.
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88

# Tutorials are executed by the tests, with these outputs stored.
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_title = f"scbatchnorm {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    # The sidebar has one already.
    "navbar_persistent": [],
}
html_context = {"default_mode": "auto"}
if os.environ.get("READTHEDOCS"):
    html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
    html_theme_options |= {
        "repository_url": "https://github.com/scbatchnorm/scbatchnorm",
        "use_repository_button": True,
        "use_issues_button": True,
    }


def copy_tutorials(app: Sphinx) -> None:
    """The notebooks live beside the package; sphinx reads only what is below this folder."""
    folder = GENERATED / "tutorials"
    folder.mkdir(parents=True, exist_ok=True)
    sources = {path.name: path for path in (HERE.parent / "tutorials").glob("*.ipynb")}
    for old in folder.iterdir():
        if old.name not in sources:
            old.unlink()
    for name, path in sources.items():
        shutil.copy2(path, folder / name)  # with its time: what has not changed is not read again


def drop_stale_stubs(app: Sphinx) -> None:
    """Pages of what the API page no longer lists, which would belong nowhere."""
    listed = re.findall(r"^   ([\w.]+)$", (HERE / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for stub in (GENERATED / "api").glob("*.rst"):
        if stub.stem.removeprefix("scbatchnorm.") not in listed:
            stub.unlink()


def write_command_line(app: Sphinx) -> None:
    """A page with what `scbatchnorm COMMAND --help` says, by the parsers themselves."""
    from scbatchnorm.cli import _main

    commands = next(a for a in _main.build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    text = ["# Options of the commands", ""]
    for name, parser in commands.choices.items():
        text += [f"## scbatchnorm {name}", "", *_described(parser), ""]
    path = GENERATED / "command-line.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text), encoding="utf-8")


def _described(parser: argparse.ArgumentParser) -> list[str]:
    """A parser's description, and a definition list of its options."""
    found = [f"{parser.description}", ""]
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            names = action.option_strings or [action.dest]
            value = action.metavar or (action.dest.upper() if action.option_strings and action.nargs != 0 else "")
            value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else value
            needed = " (required)" if action.required and action.option_strings else ""
            heading = ", ".join(f"`{f'{name} {value}'.strip()}`" for name in names)
            found += [heading + needed, f": {(action.help or '') % vars(action)}", ""]
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """What sphinx calls first."""
    # Before autosummary, and before sphinx looks which pages there are.
    for prepare in (copy_tutorials, write_command_line, drop_stale_stubs):
        app.connect("builder-inited", prepare, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
