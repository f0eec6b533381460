"""`slimformer evaluate`, `export` and `compare`: sub-networks of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slimformer.cli.options import (
    JsonOption,
    RunOption,
    SubnetOption,
    open_run,
    path,
    quiet_libraries,
    show,
)
from slimformer.errors import SlimformerError

PNG = b"\x89PNG"
"""The first bytes of a PNG file."""


def evaluate(
    subnet: SubnetOption = "",
    split: Annotated[
        str, typer.Option(help="A split of the run's task; by default the one that the results are stated on.")
    ] = "",
    run_folder: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score one sub-network of a run on a split."""
    folder, recipe = open_run(run_folder)
    from slimformer.runs import subnets as commands

    quiet_libraries()
    from slimformer.reports.escape import for_rich

    found = commands.evaluate_run(folder, recipe, subnet, split).to_json()
    show(found, as_json, lambda: map(for_rich, _scores(found)))


def _scores(found: dict[str, Any]) -> list[str]:
    from slimformer.reports.results import measure_of

    scores = (f"  {metric}: {measure_of(found, metric).text(value)}" for metric, value in found["metrics"].items())
    return [f"{found['name']} on {found['split']}", *scores]


def export(
    to: Annotated[Path, typer.Option("--to", parser=path, help="The folder to write.")],
    subnet: SubnetOption = "",
    dtype: Annotated[
        str,
        typer.Option("--dtype", help="Number type of the weights: float32, float16 or bfloat16; by default the checkpoint's."),
    ] = "",
    run_folder: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut a sub-network out of a run as a folder that transformers loads without slimformer."""
    folder, recipe = open_run(run_folder)
    from slimformer.runs import subnets as commands

    quiet_libraries()
    from slimformer.reports.escape import for_rich

    found = commands.export_run(folder, recipe, subnet, to, dtype).to_json()
    show(found, as_json, lambda: map(for_rich, (f"{found['name']} is in {to}", f"load it with: {found['load']}")))


def compare(
    runs: Annotated[
        list[Path], typer.Argument(parser=path, help="Run folders of one task; the others are set against the first.")
    ],
    plot: Annotated[Path | None, typer.Option("--plot", parser=path, help="A PNG file to draw the comparison in.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare finished runs: mean and worst of their sub-networks, each sub-network, and what the training cost.

    Runs of one recipe with other seeds are one group, with mean and spread.
    """
    from slimformer.files import write_whole, writing
    from slimformer.reports.comparison import comparison_tables, plot_comparison
    from slimformer.runs.compare import compare as compare_runs
    from slimformer.runs.folder import RunFolder

    if plot is not None and plot.is_file() and not plot.read_bytes().startswith(PNG):
        raise SlimformerError(f"--plot {plot}: the file is no picture and stays: give another name, for example compare.png")
    found = compare_runs([RunFolder(folder) for folder in runs])
    if plot is not None:
        with writing(plot):
            write_whole(plot, lambda partial: plot_comparison(found, partial))
    show(found.to_json(), as_json, lambda: comparison_tables(found))
