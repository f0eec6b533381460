"""The recipe of a run folder: begin a run, read its recipe back, and find the folder where a recipe runs."""

from __future__ import annotations

from pathlib import Path

from slimformer.errors import RecipeError, RunError
from slimformer.files import write_whole, writing
from slimformer.recipe.reader import read_recipe
from slimformer.recipe.schema import Recipe
from slimformer.recipe.table import differences, to_table, write_recipe
from slimformer.runs.folder import RunFolder


def recipe_of(folder: RunFolder) -> Recipe:
    """The recipe of a run.

    Raises: RunError where the folder holds no run; RecipeError where the file is no recipe.
    """
    if not folder.recipe_file.is_file():
        raise RunError(f"{folder.path} holds no run: give a folder made by 'slimformer run'")
    try:
        return read_recipe(folder.recipe_file)
    except UnicodeDecodeError as error:
        raise RunError(f"{folder.recipe_file} is damaged ({error}): run the recipe again with another --out folder") from None


def begin(folder: RunFolder, recipe: Recipe) -> None:
    """Make the folder for a recipe, or continue in it if it holds a run of the same recipe.

    Raises: RunError naming the differences where it holds a run of another recipe.
    """
    if folder.recipe_file.is_file() and not folder.is_untouched():
        other = differences(to_table(recipe_of(folder)), to_table(recipe))
        if other:
            raise RunError(f"{folder.path} holds a run of another recipe ({'; '.join(other[:3])}): give another --out folder")
        return
    if folder.path.exists() and not folder.path.is_dir():
        raise RunError(f"{folder.path} is a file: give another --out folder")
    if folder.path.is_dir() and not folder.is_untouched():
        raise RunError(f"{folder.path} is not empty and holds no run: give another --out folder")
    with writing(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
        write_whole(folder.recipe_file, lambda partial: write_recipe(recipe, partial))


def folder_for(recipe: Recipe, root: Path) -> Path:
    """The default folder of a recipe: `root/NAME`, or `root/NAME-2`, ... if that holds a run of another recipe."""
    number = 1
    while True:
        path = root / (recipe.name if number == 1 else f"{recipe.name}-{number}")
        folder = RunFolder(path)
        if not folder.recipe_file.is_file() or folder.is_untouched():
            return path
        try:
            if not differences(to_table(recipe_of(folder)), to_table(recipe)):
                return path
        except (RunError, RecipeError):
            pass
        number += 1
