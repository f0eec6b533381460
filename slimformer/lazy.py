"""Import public names on first use, so that reading a recipe or showing help does not import torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence


def lazy_names(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package whose names live in its modules.

    homes: module, relative to the package ("" for its sub-packages themselves) or from "slimformer." on -> names. For type checkers the package
        imports the same names under `TYPE_CHECKING`; a test compares the two.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if home[name]:
            module = home[name] if home[name].startswith("slimformer.") else f"{package}.{home[name]}"
            value = getattr(importlib.import_module(module), name)
        else:
            value = importlib.import_module(f"{package}.{name}")
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__, lambda: sorted(home), sorted(home)
