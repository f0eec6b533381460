"""Configuration of the documentation site: guides in Markdown, the API reference from docstrings, nothing from a network."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from api_pages import write_pages
from docstring_markup import to_rst

DOCS = Path(__file__).parent

project = "slimformer"
release = metadata.version("slimformer")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "benchmarks/*.md", "examples/*.md"]
exclude_patterns = ["docs/images", "docs/redirect", "docs/*.py", ".venv", "runs", "site"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "slimformer"
html_extra_path = ["redirect"]
html_show_sourcelink = False
html_copy_source = False
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
add_module_names = False
nitpicky = False


def process_docstring(app, kind, name, obj, options, lines) -> None:
    """Replace a docstring by its reStructuredText."""
    if list(lines)[:1] == ["Call self as a function."]:
        lines[:] = []
        return
    known: set[str] = set()
    if inspect.isclass(obj) and dataclasses.is_dataclass(obj):
        known |= {field.name for field in dataclasses.fields(obj)}
    if inspect.isclass(obj):
        known |= set(getattr(obj, "__annotations__", {}))
    if callable(obj):
        with contextlib.suppress(TypeError, ValueError):
            known |= set(inspect.signature(obj).parameters)
    lines[:] = to_rst(list(lines), known)


def setup(app) -> None:
    """Write the pages of the API reference, and read docstrings by the project's rules."""
    write_pages(DOCS / "api")
    app.connect("autodoc-process-docstring", process_docstring)
