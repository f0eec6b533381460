"""Recipes: the schema, the reader of TOML files, and their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names

if TYPE_CHECKING:
    from slimformer.recipe.reader import parse_recipe as parse_recipe, read_recipe as read_recipe
    from slimformer.recipe.schema import Recipe as Recipe
    from slimformer.recipe.table import differences as differences, to_table as to_table, write_recipe as write_recipe

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "schema": ["Recipe"],
        "reader": ["parse_recipe", "read_recipe"],
        "table": ["differences", "to_table", "write_recipe"],
    },
)
