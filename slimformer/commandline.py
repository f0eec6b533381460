"""What commands share: options that several of them have, the run they speak of, and how a result is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slimformer.recipe import Recipe
    from slimformer.rundir import RunFolder

RUNS = Path("runs")

SetOption = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one value of the recipe, e.g. --set finetune.epochs=1. Repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout; progress goes to stderr.")]
RunOption = Annotated[Path | None, typer.Option("--run", help="A run folder. By default the last run in runs/.")]
SubnetOption = Annotated[
    str,
    typer.Option("--subnet", help="A sub-network by its ratios, e.g. width0.5-depth0.75 or w0.5; or a JSON file with a spec."),
]


def open_run(run_folder: Path | None) -> tuple[RunFolder, Recipe]:
    """A run folder, by default the last one, and its recipe."""
    from slimformer.rundir import RunFolder, last_run

    folder = RunFolder(run_folder or last_run(RUNS))
    return folder, folder.recipe()


def show(document: Any, as_json: bool, lines: Callable[[], Iterable[Any]]) -> None:
    """Print a result: as one JSON document, or for people."""
    if as_json:
        print(json.dumps(document))
        return
    from slimformer.console import out

    for line in lines():
        out.print(line, soft_wrap=isinstance(line, str), highlight=False)


def quiet_libraries() -> None:
    """Keep the libraries' own progress bars and advice off the terminal; errors still come through."""
    import datasets
    import huggingface_hub
    import transformers

    huggingface_hub.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
