"""Load plugins: packages with entry points in the groups "slimformer.plugins" and "slimformer.commands", and a recipe's files.

A plugin is a stranger's code: whatever it does while it loads, it must not take the others down. One that fails is left out
with a warning that names it, and so is a component that recipes could not use.
"""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, distributions, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from slimformer.errors import RecipeError, first_line
from slimformer.registry import REGISTRIES

GROUP = "slimformer.plugins"
"""The group of entry points whose modules register components."""

COMMANDS = "slimformer.commands"
"""The group of entry points that name functions, each a command."""

COMMAND_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""The form of a command's name."""

Command = Callable[..., None]
"""A function whose annotated arguments typer reads."""


@cache
def load_plugins() -> tuple[str, ...]:
    """Import every plugin, so that its components are registered; the built-in ones are loaded the same way, and first.

    A plugin that fails to load, and a component that recipes cannot use, are named in a warning and left out.
    Returns: the names of the plugins that loaded.

    ```python
    from slimformer import load_plugins
    assert "builtins" in load_plugins()
    ```
    """
    return tuple(point.name for point, _ in _load(GROUP))


@cache
def load_commands() -> Mapping[str, Command]:
    """The commands that plugins bring, by name: functions whose annotated arguments typer reads.

    Their modules import torch inside functions, so that `--help` stays instant. One that fails to import, is no function or
    has the name of another plugin's command is left out with a warning.
    """
    commands: dict[str, Command] = {}
    origins: dict[str, str] = {}
    for point, found in _load(COMMANDS):
        if point.name in commands:
            _leave_out(point, f"{origins[point.name]} brings a command of that name already")
        elif not COMMAND_NAME.fullmatch(point.name) or not callable(found) or isinstance(found, type):
            _leave_out(point, "a command is a function, its name lower-case letters, digits, '-' and '_'")
        else:
            commands[point.name], origins[point.name] = found, point.value
    return commands


def _load(group: str) -> Iterator[tuple[EntryPoint, object]]:
    """The entry points of a group with what they name; a warning for each that fails."""
    for point in sorted(_points(group), key=_order):
        registered = _registered()
        try:
            with _contained(point):
                found = point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a stranger's code: anything can happen, sys.exit() too
            _forget_new(registered, _root(point))
            _leave_out(point, _said(error))
            continue
        if not _is_own(point):
            _drop_unusable(registered, f"plugin {point.name!r} ({point.value})")
        yield point, found


@contextlib.contextmanager
def _contained(point: EntryPoint) -> Iterator[None]:
    """Keep what a plugin prints off stdout, which is for results, and its warning filters from the rest of the process."""
    with contextlib.ExitStack() as stack:
        if not _is_own(point):
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            stack.enter_context(warnings.catch_warnings())
        yield


def _points(group: str) -> list[EntryPoint]:
    """The entry points of a group; packages whose list of entry points cannot be read are left out with a warning."""
    try:
        return list(entry_points(group=group))
    except Exception:
        found = []
        for package in distributions():
            try:
                found += [point for point in package.entry_points if point.group == group]
            except Exception as error:
                name = next(iter(package.metadata.get_all("Name") or ["?"]))
                _warn(f"the entry points of package {name!r} were left out: {_said(error)}")
        return found


def _order(point: EntryPoint) -> tuple[bool, str]:
    """slimformer's own plugins first, so that no other plugin takes the name of one of their components."""
    return (not _is_own(point), point.name)


def _is_own(point: EntryPoint) -> bool:
    package = getattr(point, "dist", None)
    return _root(point) == "slimformer" or (package is not None and package.name == "slimformer")


def _root(point: EntryPoint) -> str:
    """The top package that an entry point names."""
    return re.split(r"[.:\s\[]", point.value.strip())[0]


Registered = Mapping[str, frozenset[str]]
"""The names in each registry, by the registry's plural."""


def _registered() -> Registered:
    return {plural: frozenset(registry.names()) for plural, registry in REGISTRIES.items()}


def _new(before: Registered) -> list[tuple[str, str, type]]:
    """The components that were registered since: (registry, name, class)."""
    every = [(plural, name, cls) for plural, registry in REGISTRIES.items() for name, cls in registry]
    return [(plural, name, cls) for plural, name, cls in every if name not in before.get(plural, frozenset())]


def _forget_new(before: Registered, root: str) -> None:
    """Remove what a failed plugin registered from its own modules; modules that stay imported keep their components."""
    for plural, name, cls in _new(before):
        if root != "slimformer" and cls.__module__.split(".")[0] == root:
            REGISTRIES[plural].forget(name)


def _drop_unusable(before: Registered, origin: str) -> None:
    """Remove the new components whose options no recipe can be checked against, with a warning for each."""
    for plural, name, cls in _new(before):
        reason = _unusable(cls)
        if reason:
            REGISTRIES[plural].forget(name)
            _warn(f"{REGISTRIES[plural].kind} {name!r} of {origin} was left out: {reason}")


def _unusable(cls: type) -> str:
    """The reason why recipes cannot check the options of a component; empty if they can."""
    from pydantic import TypeAdapter

    try:
        TypeAdapter(cls).rebuild(force=True, raise_errors=True)
    except Exception as error:
        return f"the annotations of its options cannot be read: {_said(error)}"
    return ""


@cache
def load_file(path: Path) -> None:
    """Run a Python file once, so that the components it defines are registered.

    Raises: RecipeError if the file is missing, fails, or defines a component that recipes cannot use.
    """
    spec = spec_from_file_location(f"slimformer_file_{path.stem}", path)
    if path.suffix != ".py" or not path.is_file() or spec is None or spec.loader is None:
        raise RecipeError(f"there is no Python file {path}: write the path of a plugin, from the recipe's folder")
    registered = _registered()
    module = sys.modules[spec.name] = module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's code: anything can happen, sys.exit() too
        _forget_new(registered, spec.name)
        raise RecipeError(f"plugin {path} failed: {_said(error)}") from error
    for plural, name, cls in _new(registered):
        reason = _unusable(cls)
        if reason:
            _forget_new(registered, spec.name)
            raise RecipeError(f"plugin {path}: {REGISTRIES[plural].kind} {name!r}: {reason}")


def _leave_out(point: EntryPoint, reason: str) -> None:
    _warn(f"plugin {point.name!r} ({point.value}) was left out: {reason}")


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)


def _said(error: BaseException) -> str:
    """An error as its type and the first line of its message; the message may itself be a stranger's code."""
    try:
        text = first_line(error)
    except Exception:
        text = "its message cannot be shown"
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return f"{type(error).__name__}: {shown}"
