"""Turn pydantic's errors into lines that name the file, the line and what to write."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from slimformer.recipe.location import Location, Place, dotted
from slimformer.recipe.schema import Recipe, ScheduleTable
from slimformer.registry import Registry


def explain(error: ErrorDetails, place: Place) -> str:
    """One line for one of pydantic's errors."""
    location, kind = _without_tags(error["loc"]), error["type"]
    head = f"{place(location)}{dotted(location)}: "
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = _allowed(location[:-1], tag=str(error["loc"][-2]) if len(error["loc"]) > 1 else "")
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        return f"{head}unknown key{f' (did you mean {close[0]!r}?)' if close else ''}; allowed: {', '.join(allowed)}"
    if kind == "missing":
        registry = registry_at(location)
        choices = f"; write name = one of: {', '.join(registry.names())}" if registry else ""
        return f"{head}missing{choices or f'; write {location[-1]} = ...'}"
    if kind.startswith("union_tag"):
        registry = registry_at(location)
        value = error["input"].get("name") if isinstance(error["input"], Mapping) else error["input"]
        if registry:
            return head + (registry.unknown(value) if value else f"write name = one of: {', '.join(registry.names())}")
    value = error["input"]
    shown = f", got {repr(value)[:LONGEST_VALUE]}" if isinstance(value, str | int | float | bool) else ""
    message = error["msg"][0].lower() + error["msg"][1:]
    for python, toml in _IN_TOML.items():
        message = message.replace(python, toml)
    return f"{head}{message}{shown}"


LONGEST_VALUE = 200
"""Characters of a value in a message."""

_IN_TOML = {"valid tuple": "list", "valid list": "list", "valid dictionary": "table", " or an instance of ": " or "}
"""Pydantic's words -> those of a recipe."""


def _without_tags(location: Location) -> Location:
    """Drop the component names that pydantic puts into a location after the key that holds the component."""
    plain: list[str | int] = []
    for part in location:
        schema = _schema_at(tuple(plain))
        if isinstance(schema, Registry) and part in schema.names() and part not in _allowed(tuple(plain)):
            continue
        plain.append(part)
    return tuple(plain)


def _allowed(location: Location, tag: str = "") -> list[str]:
    """The keys that a table may have; `tag` is the name of the component that it describes, if known."""
    schema = _schema_at(location)
    if isinstance(schema, Registry):
        named = [cls for name, cls in schema if name == tag] or [cls for _, cls in schema]
        return ["name", *dict.fromkeys(field.name for cls in named for field in fields(cls))]
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return [*schema.model_fields, *(["schedule"] if schema is Recipe else [])]
    return [field.name for field in fields(schema)] if is_dataclass(schema) else []


def _schema_at(location: Location) -> Any:
    """The model, dataclass or registry that describes the value at a location."""
    schema: Any = ScheduleTable if location[:1] == ("schedule",) else Recipe
    for part in location:
        if isinstance(part, int) or isinstance(schema, Registry):
            continue
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            field = schema.model_fields.get(str(part))
            schema = None if field is None else Registry.of(field) or _item_type(field.annotation)
        else:
            schema = None
    return schema


def registry_at(location: Location) -> Registry[Any] | None:
    """The registry whose component stands at a location (not one of the component's options)."""
    schema, above = _schema_at(location), _schema_at(location[:-1])
    is_option = isinstance(above, Registry) and isinstance(location[-1], str)
    return schema if isinstance(schema, Registry) and not is_option else None


def _item_type(annotation: object) -> object:
    return _item_type(get_args(annotation)[0]) if get_origin(annotation) in (tuple, list) else annotation
