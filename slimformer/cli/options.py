"""Shared parts of the commands: options, paths, the run folder, and the output of results."""

from __future__ import annotations

import json
import math
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimformer.cli.faults import INVOCATION
from slimformer.errors import SlimformerError

if TYPE_CHECKING:
    from slimformer.recipe.schema import Recipe
    from slimformer.runs.folder import RunFolder

RUNS = Path("runs")


def path(text: str) -> Path:
    """A path of the command line, checked before anything else is done; one that ends in "." or ".." becomes absolute.

    Raises: typer.BadParameter for a path that is empty, too long, unreadable, below a file, or has control characters.
    """
    if not text.strip():
        raise typer.BadParameter("an empty path: write the name of a file or folder")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise typer.BadParameter(f"{text!r} has characters that no path should have: rename the file or folder")
    try:
        os.stat(text)
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise typer.BadParameter(f"{text} lies below a file, not a folder") from None
    except OSError as error:
        raise typer.BadParameter(f"{text}: {error.strerror}") from None
    plain = Path(text)
    return plain if plain.name not in ("", "..") else Path(os.path.abspath(text))


SetOption = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one value of the recipe, e.g. --set finetune.epochs=1. Repeatable."
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout; progress goes to stderr.")]

RunOption = Annotated[Path | None, typer.Option("--run", parser=path, help="A run folder. By default the last run in runs/.")]

SubnetOption = Annotated[
    str,
    typer.Option("--subnet", help="A sub-network by its ratios, e.g. width0.5-depth0.75 or w0.5; or a JSON file with a spec."),
]


def print_version(wanted: bool) -> None:
    """Print the versions of slimformer and of what its results depend on, then exit; nothing heavy is imported."""
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    for package in ("slimformer", "torch", "transformers"):
        try:
            print(package, version(package))
        except PackageNotFoundError:
            print(package, "unknown (not installed as a package)")
    print("python", ".".join(map(str, sys.version_info[:3])))
    raise typer.Exit


def open_run(run_folder: Path | None) -> tuple[RunFolder, Recipe]:
    """A run folder, by default the last one, and its recipe."""
    from slimformer.runs.folder import RunFolder, last_run
    from slimformer.runs.recipe_file import recipe_of

    folder = RunFolder(run_folder or last_run(RUNS))
    INVOCATION.run_folder = folder.path
    return folder, recipe_of(folder)


def finite(value: object) -> object:
    """A JSON document with null for numbers that JSON does not have: NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def show(document: Any, as_json: bool, lines: Callable[[], Iterable[Any]]) -> None:
    """Print a result: as one JSON document, or for people."""
    if as_json:
        print(json.dumps(finite(document)))
        return
    from slimformer.cli.console import out

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


def pairs(option: str, items: list[str], example: str) -> list[tuple[str, str]]:
    pairs = []
    for item in items:
        name, equals, text = item.partition("=")
        if not equals:
            kind = "COST" if option == "--max" else "NAME"
            raise SlimformerError(f"{option} {item}: write {kind}=VALUE, for example {option} {example}")
        pairs.append((name, text))
    return pairs


def toml_value(option: str, text: str) -> Any:
    """A TOML value."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise SlimformerError(f"--set {option}={text}: write a TOML value, for example --set hidden=true") from None


def whole_number(option: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise SlimformerError(f"{option}={text}: write a whole number of 1 or more")
    return int(text)
