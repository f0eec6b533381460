"""The text of a recipe: TOML, the recipes that it extends, and the file and line on which each value was written."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slimformer.errors import RecipeError
from slimformer.recipe.location import Location, dotted
from slimformer.recipe.values import TextError, parse_toml, wrong_values


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
    own = {location: f"{path}:{line}" for location, line in key_lines(text).items()}
    wrong = [f"{place_in(own, at, str(path))}: {dotted(at)}: {what}" for at, what in wrong_values(table)]
    if wrong:
        raise RecipeError("\n".join(dict.fromkeys(wrong)))
    files = table.get("plugins")
    if isinstance(files, list):
        table["plugins"] = [_from_folder(path, file) if isinstance(file, str) else file for file in files]
    if "extends" not in table:
        return Source(table, own)
    place, extended = place_in(own, ("extends",), str(path)), table.pop("extends")
    if not isinstance(extended, str):
        raise RecipeError(f'{place}: extends: write the path of one recipe, for example extends = "dynabert_glue.toml"')
    other = path.parent / extended
    try:
        is_own, is_there = other.resolve() in (file.resolve() for file in (*below, path)), other.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL, a loop of links
        is_own = is_there = False
    if is_own:
        raise RecipeError(f"{place}: extends: {other} extends this recipe itself")
    if not is_there:
        raise RecipeError(f"{place}: extends: there is no recipe {other}; write its path from this file's folder")
    return put_over(_for(read_source(other, (*below, path)), table), table, own)


def place_in(places: Mapping[Location, str], location: Location, otherwise: str) -> str:
    """Where a value was written: its own place, else the first one below it, else that of the value it stands in."""
    for length in range(len(location), 0, -1):
        above = location[:length]
        if above in places:
            return places[above]
        below = next((said for at, said in places.items() if at[:length] == above), "")
        if below:
            return below
    return otherwise


def _from_folder(recipe: Path, file: str) -> str:
    """The path of a file that a recipe names; the text itself where it is no path."""
    try:
        return str((recipe.parent / file).resolve())
    except (OSError, ValueError, RuntimeError):
        return file


def _parse(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        return text, parse_toml(text)
    except TextError as error:
        raise RecipeError(f"{path}:{error.line}: not TOML: {error}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"no recipe can be read from {path}: line {line} is not UTF-8 text ({error.reason})") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"no recipe can be read from {path}: {getattr(error, 'strerror', None) or error}") from None


@dataclass
class _Joined:
    """Record of a join of two tables.

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


def _for(base: Source, table: Mapping[str, object]) -> Source:
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


def _name_of(item: object) -> object:
    return item.get("name") if isinstance(item, Mapping) else None


_DOTTED = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+))*"""

_HEADER = re.compile(rf"^\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(#.*)?$")

_KEY = re.compile(rf"^\s*({_DOTTED})\s*=")

_OPENED = re.compile(r"=\s*\[\s*(#.*)?$")


def key_lines(text: str) -> dict[Location, int]:
    """The line on which each key, table header and inline table of a list stands (TOML parsers do not tell)."""
    lines: dict[Location, int] = {}
    table: Location = ()
    items: Location = ()
    counts: dict[Location, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            table, items = (), ()
            for part in _parts(header[2]):
                table = (*table, part)
                table = (*table, counts[table]) if table in counts else table
            if header[1] == "[[":
                table = table[:-1] if isinstance(table[-1], int) else table
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines[table] = number
        elif key:
            parts = _parts(key[1])
            lines.setdefault((*table, *parts), number)
            items = (*table, *parts) if _OPENED.search(line) else ()
        elif items and line.lstrip().startswith("{"):
            counts[items] = counts.get(items, -1) + 1
            lines[*items, counts[items]] = number
    return lines


def _parts(written: str) -> tuple[str, ...]:
    """The parts of a key as it is written, quoted or not; none where it is a key of no table, but part of a longer text."""
    try:
        table: object = tomllib.loads(f"{written} = 0")
    except (tomllib.TOMLDecodeError, RecursionError):
        return ("",)
    parts: list[str] = []
    while isinstance(table, dict):
        part, table = next(iter(table.items()))
        parts.append(part)
    return tuple(parts)
