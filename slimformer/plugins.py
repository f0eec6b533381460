"""Finds plugins: packages with entry points in the groups "slimformer.plugins" and "slimformer.commands", and a recipe's files."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from slimformer.errors import RecipeError

GROUP = "slimformer.plugins"
COMMANDS = "slimformer.commands"


@cache
def load_plugins() -> tuple[str, ...]:
    """Import every plugin, so that its components are registered; the built-in ones come in by the same door.

    A plugin that fails to import is named in a warning and left out: it must not take the others down.
    Returns: the names of the plugins that loaded.
    """
    return tuple(_load(GROUP))


@cache
def load_commands() -> dict[str, Callable[..., None]]:
    """The commands that plugins bring, by name: functions whose annotated arguments typer reads.

    Their modules import torch inside functions, so that `--help` stays instant. One that fails to import is left out.
    """
    return _load(COMMANDS)


def _load(group: str) -> dict[str, Any]:
    """What the entry points of a group name, by the entry point's name; a warning for each that fails."""
    loaded = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            loaded[point.name] = point.load()
        except Exception as error:  # a stranger's code: anything can happen
            warnings.warn(f"plugin {point.name!r} ({point.value}) was left out: {error!r}", stacklevel=3)
    return loaded


@cache
def load_file(path: Path) -> None:
    """Run a Python file once, so that the components it defines are registered.

    Raises: RecipeError where it is missing or fails.
    """
    spec = spec_from_file_location(f"slimformer_file_{path.stem}", path)
    if path.suffix != ".py" or not path.is_file() or spec is None or spec.loader is None:
        raise RecipeError(f"there is no Python file {path}: write the path of a plugin, from the recipe's folder")
    module = sys.modules[spec.name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a stranger's code: anything can happen
        raise RecipeError(f"plugin {path} failed: {type(error).__name__}: {error}") from error
