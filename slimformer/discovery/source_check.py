"""Keep what is read from a model out of generated code: checked identifiers, quoted text, and a whitelist of syntax."""

from __future__ import annotations

import ast
import json
import keyword
import re

from slimformer.errors import TopologyError

IMPORTS = {"__future__", "dataclasses", "typing", "torch", "slimformer.backbones"}
"""The modules that a generated plugin may import."""

CALLS = {
    "Attribute", "BlockStack", "Slice", "Topology", "UnitGroup", "append", "counts", "dataclass", "entries", "full",
    "get_submodule", "has_modules", "has_settings", "image_example", "in_features", "len", "ones", "prefix_of", "range", "reads",
    "register", "removeprefix", "rstrip", "text_example", "tuple", "type", "type_of", "writes", "zeros",
}  # fmt: skip
"""The functions and methods that a generated plugin may call, besides those that it defines."""

NODES = (
    ast.Module, ast.Import, ast.ImportFrom, ast.alias, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Return,
    ast.Assign, ast.For, ast.Expr, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Store, ast.Attribute, ast.Constant,
    ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.List, ast.Dict, ast.Starred, ast.Subscript, ast.BoolOp, ast.And,
    ast.Compare, ast.Eq, ast.UnaryOp, ast.USub,
)  # fmt: skip
"""The kinds of syntax in a generated plugin: no lambda, comprehension, operator or statement of another kind."""


def is_identifier(name: str) -> bool:
    """Whether a name, or each part of a dotted one, may stand in generated code: a Python identifier that is not private."""
    return all(
        p.isidentifier() and p.isascii() and not keyword.iskeyword(p) and not p.startswith("__") for p in name.split(".")
    )


def checked_path(path: str) -> str:
    """A module's or parameter's path, to stand inside a quoted string of generated code.

    Raises: TopologyError for a path with other characters than letters, digits, `_` and dots.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.]*", path):
        raise TopologyError(f"no plugin file can be written for a model with a part called {ascii(path)[:80]}")
    return path


def checked_identifier(name: str) -> str:
    """Raises: TopologyError for a name that cannot stand in generated code as it is."""
    if not is_identifier(name):
        raise TopologyError(f"no plugin file can be written for a model that calls something {ascii(name)[:80]}")
    return name


def quoted(text: str) -> str:
    """A string as a Python literal in double quotes."""
    return json.dumps(text)


def in_docstring(text: str) -> str:
    """Text without what ends a docstring, escapes a character or breaks a line."""
    return re.sub(r"[^\x20-\x7e]", "?", text).replace("\\", "/").replace('"', "'")


def check_source(text: str) -> None:
    """Check that a generated plugin consists of what the generator writes and of nothing else, before it is imported.

    Raises: TopologyError naming the line that is something else.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise TopologyError(f"the plugin file of this model would be no Python: {error}") from None
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("_")}
    for node in ast.walk(tree):
        problem = _problem(node, own)
        if problem:
            line = text.splitlines()[getattr(node, "lineno", 1) - 1].strip()
            raise TopologyError(f"the plugin file of this model would hold {problem}, which is refused: {ascii(line)[:80]}")


def _problem(node: ast.AST, own: set[str]) -> str:
    """The reason why a node may not stand in a generated plugin, "" where it may."""
    if not isinstance(node, NODES):
        return f"syntax of the kind {type(node).__name__}"
    if isinstance(node, ast.Import) and not {alias.name for alias in node.names} <= IMPORTS:
        return "an import"
    if isinstance(node, ast.ImportFrom) and (node.module not in IMPORTS or node.level):
        return "an import"
    if isinstance(node, ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if called not in CALLS | own:
            return f"a call of {called!r}"
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return f"the name {name!r}" if name.startswith("__") and name != "__name__" else ""
