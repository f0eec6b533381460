"""Write the pages of the API reference: one for each folder of slimformer, with every public name of its `__all__`."""

from __future__ import annotations

import ast
import importlib
import inspect
from functools import cache
from itertools import pairwise
from pathlib import Path

from docstring_markup import to_rst

FOLDERS = (
    "axes", "backbones", "costs", "discovery", "distillation", "export", "importance", "recipe", "repair", "rewiring",
    "search", "supernet", "tasks", "testing", "training",
)  # fmt: skip
"""The folders with a page; `slimformer` itself has one too."""


def public_modules() -> tuple[str, ...]:
    """The packages whose `__all__` is the public API."""
    return ("slimformer", *(f"slimformer.{folder}" for folder in FOLDERS))


def undocumented() -> list[str]:
    """The public names without a docstring: classes and functions without one of their own, data without a string after it."""
    missing = []
    for module in public_modules():
        package = importlib.import_module(module)
        missing += [f"{module}.{name}" for name in package.__all__ if not name.startswith("__") and not docstring(module, name)]
    return missing


def docstring(module: str, name: str) -> str:
    """The docstring of a public name; empty if it has none."""
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        text = value.__dict__.get("__doc__") or ""
        return "" if text.startswith(f"{value.__name__}(") else text  # what dataclasses write themselves
    if inspect.isroutine(inspect.unwrap(value)) or inspect.ismodule(value):
        return value.__doc__ or ""
    found = _data(module, name)
    return found[1] if found else ""


def write_pages(folder: Path) -> None:
    """Write all pages and their table of contents; pages that have not changed keep their time.

    Raises: ValueError naming the public names without a docstring.
    """
    missing = undocumented()
    if missing:
        raise ValueError(f"public names without a docstring: {', '.join(missing)}")
    folder.mkdir(exist_ok=True)
    pages = {module: page(module) for module in public_modules()}
    listed = "\n".join(f"   {module}" for module in pages)
    pages["index"] = f"API reference\n=============\n\n.. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def page(module: str) -> str:
    """The page of one package: its docstring, and each public name or a link to the page that has it."""
    package = importlib.import_module(module)
    intro = to_rst((package.__doc__ or "").splitlines())
    parts = [module, "=" * len(module), "", f".. module:: {module}", "", *intro, ""]
    for name in (name for name in package.__all__ if not name.startswith("__")):
        value = getattr(package, name)
        home = _home(module, name)
        if inspect.ismodule(value):
            parts += [f"* :doc:`{value.__name__}`: {_first(value.__doc__)}", ""]
        elif home != module:
            parts += [f"* ``{name}``: see :py:obj:`{home}.{name}`", ""]
        elif inspect.isclass(value):
            parts += [f".. autoclass:: {module}.{name}", "   :members:", "   :special-members: __call__", ""]
        elif inspect.isroutine(inspect.unwrap(value)):
            parts += [f".. autofunction:: {module}.{name}", ""]
        else:
            parts += [f".. data:: {name}", "", *(f"   {line}" for line in to_rst(docstring(module, name).splitlines())), ""]
    return "\n".join(parts) + "\n"


def _first(text: str | None) -> str:
    return "".join(to_rst((text or "").strip().splitlines()[:1])).strip()


def _home(module: str, name: str) -> str:
    """The package whose page documents a public name: the folder in which it is defined, if its `__all__` has the name."""
    value = getattr(importlib.import_module(module), name)
    found = getattr(value, "__module__", "") if inspect.isclass(value) or inspect.isroutine(inspect.unwrap(value)) else ""
    folder = ".".join(found.split(".")[:2])
    if folder in public_modules() and folder != module and name in importlib.import_module(folder).__all__:
        return folder
    return module


def _data(module: str, name: str) -> tuple[str, str] | None:
    """The module that assigns a public value, and the string after the assignment."""
    for candidate in (module, *_submodules(module)):
        documented = _assignments(candidate)
        if name in documented:
            return candidate, documented[name]
    return None


def _submodules(module: str) -> list[str]:
    folder = Path(importlib.import_module(module).__file__ or "").parent
    own = [f"{module}.{path.stem}" for path in sorted(folder.glob("*.py")) if path.stem not in ("__init__", "__main__")]
    return [*own, "slimformer.supernet.topology", "slimformer.supernet.outputs"]


@cache
def _assignments(module: str) -> dict[str, str]:
    """The documented assignments of a module's source: name -> the string after it."""
    spec = importlib.util.find_spec(module)
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    body = ast.parse(source).body
    found = {}
    for statement, following in pairwise(body):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        text = following.value.value if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant) else ""
        if isinstance(text, str) and text:
            found.update({target.id: text for target in targets if isinstance(target, ast.Name)})
    return found
