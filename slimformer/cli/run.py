"""`slimformer run`: make a model slimmable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimformer.cli.faults import INVOCATION
from slimformer.cli.options import (
    RUNS,
    JsonOption,
    SetOption,
    path,
    quiet_libraries,
    show,
)
from slimformer.errors import RunError

if TYPE_CHECKING:
    from slimformer.recipe.schema import Recipe
    from slimformer.runs.folder import RunFolder


def run(
    recipe: Annotated[Path, typer.Argument(parser=path, help="A recipe file, e.g. recipes/quickstart.toml.")],
    overrides: SetOption = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option("--out", parser=path, help="The run folder. By default runs/NAME.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            parser=path,
            help="Begin with the finished steps of this run that the recipe would make alike.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan and the costs, train nothing.")
    ] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Make a model slimmable: run a recipe.

    The same command again goes on where it stopped. A variant of a finished run need not train the same teacher again:
    [bold]slimformer run RECIPE --set stage.depth.follow=[] --from runs/NAME[/]. Under torchrun or accelerate launch it uses all processes:
    [bold]torchrun --nproc-per-node 2 -m slimformer run RECIPE[/]
    """
    from slimformer.recipe.reader import read_recipe
    from slimformer.runs.folder import RunFolder
    from slimformer.runs.recipe_file import folder_for

    parsed = read_recipe(recipe, overrides)
    folder = RunFolder(out or folder_for(parsed, RUNS))
    INVOCATION.run_folder = folder.path
    if folder.path.exists() and not folder.path.is_dir():
        raise RunError(f"{folder.path} is a file: give another --out folder")
    other = RunFolder(start) if start else None
    if dry_run:
        _dry_run(parsed, folder, other, as_json)
        return
    from slimformer.cli.console import ConsoleReport
    from slimformer.reports.results import results_table
    from slimformer.runs import pipeline
    from slimformer.training.processes import Processes

    quiet_libraries()
    first = Processes().is_first
    results = pipeline.run(parsed, folder, ConsoleReport(quiet=quiet or not first), other)
    if first:
        show(
            results.to_json() | {"run": str(folder.path)},
            as_json,
            lambda: [results_table(results), f"run folder: {folder.path}"],
        )


def _dry_run(recipe: Recipe, folder: RunFolder, start: RunFolder | None, as_json: bool) -> None:
    from slimformer.runs.plan import plan

    quiet_libraries()
    found = plan(recipe, folder, start)
    show(found.to_json(), as_json, found.lines)
