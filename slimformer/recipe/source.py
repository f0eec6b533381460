"""The text of a recipe: TOML, the recipes that it extends, and the file and line on which each value was written."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slimformer.errors import RecipeError

Location = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""
Place = Callable[[Location], str]
"""Says where a value was written: "recipe.toml:8: " or "--set key=value: "."""


@dataclass(frozen=True)
class Source:
    """A recipe's table, and where its values were written: location -> "recipe.toml:8"."""

    table: dict[str, Any]
    places: Mapping[Location, str]


def read_source(path: Path, below: tuple[Path, ...] = ()) -> Source:
    """Read a recipe file and, where it says `extends = "OTHER.toml"`, put its values over those of the other.

    Tables are joined key by key, and `[stage.width]` speaks of the other's stage of that name, or adds one; any other value,
    a `[[stage]]` list, another `[schedule]` and a component of another `name` take the other's place. Paths are from the folder of the file that
    names them.

    below: the files that extend this one.
    Raises: RecipeError.
    """
    text, table = _parse(path)
    lines = key_lines(text)
    files = table.get("plugins")
    if isinstance(files, list):
        table["plugins"] = [str((path.parent / f).resolve()) if isinstance(f, str) else f for f in files]
    own = {location: f"{path}:{line}" for location, line in lines.items()}
    if "extends" not in table:
        return Source(table, own)
    place, extended = own["extends",], table.pop("extends")
    if not isinstance(extended, str):
        raise RecipeError(f'{place}: extends: write the path of one recipe, for example extends = "dynabert_glue.toml"')
    other = path.parent / extended
    if other.resolve() in (file.resolve() for file in (*below, path)):
        raise RecipeError(f"{place}: extends: {other} extends this recipe itself")
    if not other.is_file():
        raise RecipeError(f"{place}: extends: there is no recipe {other}; write its path from this file's folder")
    return put_over(_for(read_source(other, (*below, path)), table), table, own)


def _parse(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise RecipeError(f"{path}:{line[1] if line else 1}: not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"no recipe can be read from {path}: {getattr(error, 'strerror', None) or error}") from None


@dataclass
class _Joined:
    """What is learnt while two tables are joined.

    replaced: the locations at which nothing of the first table is left.
    positions: where an item of a list stands that was named, by the location that names it.
    """

    replaced: set[Location] = field(default_factory=set)
    positions: dict[Location, Location] = field(default_factory=dict)

    def keeps(self, location: Location) -> bool:
        return not any(location[:length] in self.replaced for length in range(1, len(location) + 1))

    def by_position(self, location: Location) -> Location:
        for length in range(1, len(location) + 1):
            if location[:length] in self.positions:
                return self.positions[location[:length]] + location[length:]
        return location


def _for(base: Source, table: Mapping[str, Any]) -> Source:
    """The base without the stages that a table replaces: `[[stage]]` and another `[schedule]` take the place of all."""
    old, new = base.table.get("schedule"), table.get("schedule")
    is_other = new is not None and not (isinstance(new, Mapping) and new.get("name", _name_of(old)) == _name_of(old))
    gone = {"schedule", "stage"} if isinstance(table.get("stage"), list) or is_other else set()
    if isinstance(old, list) and isinstance(new, Mapping) and "name" not in new:
        gone = set()  # the parts of a list of schedules, by name
    kept = {key: value for key, value in base.table.items() if key not in gone}
    return Source(kept, {at: place for at, place in base.places.items() if at[0] not in gone})


def put_over(base: Source, table: Mapping[str, Any], own: Mapping[Location, str]) -> Source:
    """The base with a table's values put over it."""
    joined = _Joined()
    merged = _merge(base.table, table, (), joined)
    kept = {location: place for location, place in base.places.items() if joined.keeps(location)}
    return Source(merged, kept | {joined.by_position(location): place for location, place in own.items()})


def _merge(base: Mapping[str, Any], table: Mapping[str, Any], at: Location, joined: _Joined) -> dict[str, Any]:
    """Two tables as one, the second winning."""
    merged = dict(base)
    for key, value in table.items():
        old, here = base.get(key), (*at, key)
        if isinstance(old, str) and isinstance(value, Mapping) and "name" not in value:
            value = {"name": old, **value}  # noqa: PLW2901  a component by its bare name takes options
        if isinstance(old, list) and isinstance(value, Mapping):
            merged[key] = _merge_items(old, value, here, joined)
        elif isinstance(old, Mapping) and isinstance(value, Mapping) and value.get("name", old.get("name")) == old.get("name"):
            merged[key] = _merge(old, value, here, joined)
        else:
            merged[key] = value
            joined.replaced.add(here)
    return merged


def _merge_items(base: list[Any], tables: Mapping[str, Any], at: Location, joined: _Joined) -> list[Any]:
    """A list of named tables with other tables, by name, put over them; new names come last."""
    merged = list(base)
    for name, table in tables.items():
        position = next((i for i, item in enumerate(merged) if _name_of(item) == name), len(merged))
        old, here = merged[position] if position < len(merged) else {"name": name}, (*at, position)
        joined.positions[*at, name] = here
        if isinstance(table, Mapping):
            merged[position : position + 1] = [_merge(old, table, here, joined)]
        else:
            merged[position : position + 1] = [table]  # the recipe's schema says what is wrong
            joined.replaced.add(here)
    return merged


def _name_of(item: Any) -> Any:
    return item.get("name") if isinstance(item, Mapping) else None


_HEADER = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\-\"' ]+?)\s*\]\]?\s*(#.*)?$")

_KEY = re.compile(r"^\s*([A-Za-z0-9_\-.\"']+)\s*=")

_OPENED = re.compile(r"=\s*\[\s*(#.*)?$")


def key_lines(text: str) -> dict[Location, int]:
    """The line on which each key, table header and inline table of a list stands (TOML parsers do not tell)."""
    lines: dict[Location, int] = {}
    table: Location = ()
    items: Location = ()
    counts: dict[Location, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            table, items = (), ()
            for part in header[2].split("."):
                table = (*table, part.strip().strip("\"'"))
                table = (*table, counts[table]) if table in counts else table
            if header[1] == "[[":
                table = table[:-1] if isinstance(table[-1], int) else table
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines[table] = number
        elif key:
            parts = tuple(part.strip("\"'") for part in key[1].split("."))
            lines.setdefault((*table, *parts), number)
            items = (*table, *parts) if _OPENED.search(line) else ()
        elif items and line.lstrip().startswith("{"):
            counts[items] = counts.get(items, -1) + 1
            lines[*items, counts[items]] = number
    return lines
