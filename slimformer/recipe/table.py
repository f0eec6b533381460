"""Turn a recipe back into a table, a file, and the differences between two recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel

from slimformer.recipe.schema import Recipe
from slimformer.registry import Registry


def to_table(value: Any) -> Any:
    """A recipe (or a part of one) as the plain table from which `parse_recipe` makes an equal one."""
    if isinstance(value, BaseModel):
        table = {
            name: _component_table(kind, part) if (kind := Registry.of(field)) else to_table(part)
            for name, field in type(value).model_fields.items()
            for part in [getattr(value, name)]
        }
        return table | {name: list(extra) for name, extra in (value.__pydantic_extra__ or {}).items()}
    if is_dataclass(value):
        return {field.name: to_table(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: to_table(part) for name, part in value.items()}
    return [to_table(part) for part in value] if isinstance(value, tuple | list) else value


def _component_table(kind: Registry[Any], part: Any) -> Any:
    if isinstance(part, tuple):
        return [_component_table(kind, item) for item in part]
    return {name: to_table(option) for name, option in kind.describe(part).items()}


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with every default spelled out."""
    path.write_text(tomlkit.dumps(to_table(recipe)), encoding="utf-8")


def differences(one: object, other: object, at: str = "") -> list[str]:
    """Where two tables differ, as "key.path: one -> other"."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys((*one, *other))
        return [d for k in keys for d in differences(one.get(k), other.get(k), f"{at}.{k}".lstrip("."))]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{at}.{i}")]
    return [] if one == other else [f"{at}: {one!r} -> {other!r}"]
