"""Reads and writes recipe files: TOML, overrides, and errors that name the file, the line and the likely meaning."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import tomlkit
from pydantic import BaseModel, ValidationError

from slimformer.errors import RecipeError
from slimformer.plugins import load_file, load_plugins
from slimformer.recipe import Recipe, contradictions
from slimformer.recipe_source import Location, read_source
from slimformer.registry import Registry

Place = Callable[[Location], str]
"""Says where a value was written: "recipe.toml:8: " or "--set key=value: "."""


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply overrides of the form "key.path=value".

    An override's value is TOML, or else plain text; a list item is named by its position or by its `name`.
    Raises: RecipeError with a line for every mistake: "recipe.toml:8: finetune.epoch: unknown key (did you mean 'epochs'?)".
    """
    load_plugins()
    source = read_source(path)
    table = source.table
    given = {_override_(table, override): override for override in overrides}

    def place(location: Location) -> str:
        for length in range(len(location), 0, -1):
            for key, override in given.items():
                if key == location[:length] or (length == len(location) == len(key) - 1 and key[:length] == location):
                    return f"--set {override}: "
            if location[:length] in source.places:
                return f"{source.places[location[:length]]}: "
        return f"{path}: "

    _load_files(table, place)
    return parse_recipe(table, place)


def _load_files(table: Mapping[str, Any], place: Place) -> None:
    """Run the plugin files that the recipe names."""
    files = table.get("plugins", [])
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        return  # the recipe's schema says what is wrong
    for file in files:
        try:
            load_file(Path(file))
        except RecipeError as error:
            raise RecipeError(f"{place(('plugins',))}plugins: {error}") from error


def parse_recipe(table: Mapping[str, Any], place: Place = lambda location: "") -> Recipe:
    """A recipe from its table; `place(location)` says where a value was written.

    Raises: RecipeError listing every mistake.
    """
    Recipe.model_rebuild(force=True)
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(item, place) for item in error.errors(include_url=False))) from None
    wrong = contradictions(recipe)
    if wrong:
        raise RecipeError("\n".join(f"{place(where)}{_dotted(where)}: {what}" for where, what in wrong))
    return recipe


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


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """Where two tables differ, as "key.path: one -> other"."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys((*one, *other))
        return [d for k in keys for d in differences(one.get(k), other.get(k), f"{at}.{k}".lstrip("."))]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{at}.{i}")]
    return [] if one == other else [f"{at}: {one!r} -> {other!r}"]


def _override_(table: dict[str, Any], override: str) -> Location:
    """Write one override into the table; returns the location that it set."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override}: write key=value, for example --set finetune.epochs=2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    where: Any = table
    location: list[str | int] = []
    parts = key.strip().split(".")
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


def _with_options_(where: Any, step: Any, location: Location) -> Any:
    """What stands at `where[step]`; a component written by its bare name becomes a table first, to take options."""
    if isinstance(where[step], str) and _registry_at(location):
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
        raise RecipeError(f"--set {override}: no item is called {part!r}; there are: {', '.join(names)}")
    raise RecipeError(f"--set {override}: {part!r} cannot stand below a plain value")


def _explain(error: Any, place: Place) -> str:
    """One line for one of pydantic's errors."""
    location, kind = _without_tags(error["loc"]), error["type"]
    head = f"{place(location)}{_dotted(location)}: "
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = _allowed(location[:-1], tag=str(error["loc"][-2]) if len(error["loc"]) > 1 else "")
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        return f"{head}unknown key{f' (did you mean {close[0]!r}?)' if close else ''}; allowed: {', '.join(allowed)}"
    if kind == "missing":
        registry = _registry_at(location)
        choices = f"; write name = one of: {', '.join(registry.names())}" if registry else ""
        return f"{head}missing{choices or f'; write {location[-1]} = ...'}"
    if kind.startswith("union_tag"):
        registry = _registry_at(location)
        value = error["input"].get("name") if isinstance(error["input"], Mapping) else error["input"]
        if registry:
            return head + (registry.unknown(value) if value else f"write name = one of: {', '.join(registry.names())}")
    value = error["input"]
    shown = f", got {value!r}" if isinstance(value, str | int | float | bool) else ""
    message = error["msg"][0].lower() + error["msg"][1:]
    for python, toml in _IN_TOML.items():
        message = message.replace(python, toml)
    return f"{head}{message}{shown}"


_IN_TOML = {"valid tuple": "list", "valid list": "list", "valid dictionary": "table", " or an instance of ": " or "}
"""What pydantic says, in a recipe's words."""


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)


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
        return list(schema.model_fields)
    return [field.name for field in fields(schema)] if is_dataclass(schema) else []


def _schema_at(location: Location) -> Any:
    """The model, dataclass or registry that describes the value at a location."""
    schema: Any = Recipe
    for part in location:
        if isinstance(part, int) or isinstance(schema, Registry):
            continue
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            field = schema.model_fields.get(str(part))
            schema = None if field is None else Registry.of(field) or _item_type(field.annotation)
        else:
            schema = None
    return schema


def _registry_at(location: Location) -> Registry[Any] | None:
    """The registry whose component stands at a location (not one of the component's options)."""
    schema, above = _schema_at(location), _schema_at(location[:-1])
    is_option = isinstance(above, Registry) and isinstance(location[-1], str)
    return schema if isinstance(schema, Registry) and not is_option else None


def _item_type(annotation: Any) -> Any:
    return _item_type(get_args(annotation)[0]) if get_origin(annotation) in (tuple, list) else annotation
