"""Apply KEY=VALUE overrides to the table of a recipe."""

from __future__ import annotations

from typing import Any

from slimformer.errors import RecipeError, printable
from slimformer.recipe.diagnostics import (
    registry_at,
)
from slimformer.recipe.location import Location, dotted
from slimformer.recipe.values import TextError, parse_toml, wrong_values


def override_(table: dict[str, Any], override: str) -> Location:
    """Write one override into the table; returns the location that it set."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {printable(override)}: write key=value, for example --set finetune.epochs=2")
    value = _value(text)
    where: Any = table
    location: list[str | int] = []
    parts = key.strip().split(".")
    for at, what in wrong_values(value, tuple(parts)):
        raise RecipeError(f"--set {printable(override)}: {dotted(at)}: {what}")
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        step = _step_into(where, part, override)
        location.append(step)
        if following is None:
            where[step] = value
        elif isinstance(where, dict):
            where = _with_options_(where, step, tuple(location)) if step in where else where.setdefault(step, {})
        else:
            where = _with_options_(where, step, tuple(location))
    return tuple(location)


def _value(text: str) -> object:
    """An override's value: TOML, or else the text itself."""
    try:
        table = parse_toml(f"value = {text}")
    except TextError:
        return text
    return table["value"] if len(table) == 1 else text


def _with_options_(where: Any, step: Any, location: Location) -> Any:
    """The value at `where[step]`; a component written by its bare name becomes a table first, to take options."""
    if isinstance(where[step], str) and registry_at(location):
        where[step] = {"name": where[step]}
    return where[step]


def _step_into(where: Any, part: str, override: str) -> str | int:
    if isinstance(where, dict):
        return part
    if isinstance(where, list):
        names = [str(item.get("name")) if isinstance(item, dict) else str(item) for item in where]
        if part.isdecimal() and int(part) < len(where):
            return int(part)
        if part in names:
            return names.index(part)
        raise RecipeError(f"--set {printable(override)}: no item is called {part!r}; there are: {', '.join(names)}")
    raise RecipeError(f"--set {printable(override)}: {part!r} cannot stand below a plain value")
