"""Reads and writes recipe files: TOML, overrides, and errors that name the file, the line and the likely meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from slimformer.errors import RecipeError, printable
from slimformer.plugins import load_file, load_plugins
from slimformer.recipe.diagnostics import explain
from slimformer.recipe.location import Location, Place, dotted
from slimformer.recipe.overrides import override_
from slimformer.recipe.schedule import expand_schedule
from slimformer.recipe.schema import Recipe, contradictions
from slimformer.recipe.source import Source, place_in, read_source
from slimformer.recipe.table import to_table
from slimformer.recipe.values import wrong_values


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply overrides of the form "key.path=value".

    An override's value is TOML, or else plain text; a list item is named by its position or by its `name`.
    Raises: RecipeError with a line for every mistake: "recipe.toml:8: finetune.epoch: unknown key (did you mean 'epochs'?)".
    """
    load_plugins()
    source = read_source(path)
    given: dict[Location, str] = {}

    def place(location: Location) -> str:
        for length in range(len(location), 0, -1):
            for key, override in given.items():
                if key == location[:length] or (length == len(location) == len(key) - 1 and key[:length] == location):
                    return f"--set {printable(override)}: "
        return f"{place_in(source.places, location, str(path))}: "

    early = [override for override in overrides if re.match(r"\s*(schedule|plugins)\s*[.=]", override)]
    given |= {override_(source.table, override): override for override in early}
    _load_files(source.table, place)
    source = expand_schedule(source, place)
    given |= {override_(source.table, override): override for override in overrides if override not in early}
    return parse_recipe(source.table, place)


def _load_files(table: Mapping[str, object], place: Place) -> None:
    """Run the plugin files that the recipe names."""
    files = table.get("plugins", [])
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        return  # the recipe's schema says what is wrong
    for file in files:
        try:
            load_file(Path(file))
        except (RecipeError, OSError, ValueError) as error:
            what = error if isinstance(error, RecipeError) else f"{file!r} is no path of a plugin"
            raise RecipeError(f"{place(('plugins',))}plugins: {what}") from error


def parse_recipe(table: Mapping[str, object], place: Place = lambda location: "") -> Recipe:
    """A recipe from its table; `place(location)` says where a value was written.

    Raises: RecipeError listing every mistake.
    """
    unreadable = [f"{place(at)}{dotted(at)}: {what}" for at, what in wrong_values(table)]
    if unreadable:
        raise RecipeError("\n".join(dict.fromkeys(unreadable)))
    Recipe.model_rebuild(force=True)
    table = expand_schedule(Source(dict(table), {}), place).table
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise RecipeError("\n".join(explain(item, place) for item in error.errors(include_url=False))) from None
    wrong = contradictions(recipe) or [*wrong_values(to_table(recipe))]
    if wrong:
        raise RecipeError("\n".join(f"{place(where)}{dotted(where)}: {what}" for where, what in wrong))
    return recipe
