"""`slimformer list`, `inspect` and `new-backbone`: components and models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimformer.cli.options import JsonOption, pairs, path, quiet_libraries, show, toml_value
from slimformer.component_options import options_of
from slimformer.errors import SlimformerError
from slimformer.plugins import load_plugins

if TYPE_CHECKING:
    from slimformer.registry import Registry


def list_components(
    kind: Annotated[str, typer.Argument(help="One registry, e.g. tasks; all of them by default.")] = "",
    options: Annotated[
        bool, typer.Option("--options", help="With --json: the options of each component too (the tables always have them).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the components that recipes can name, each with its options: name, type, default and meaning.

    With --json: registry -> name -> summary; with --options: registry -> name -> {summary, options}.
    """
    from slimformer.registry import REGISTRIES

    load_plugins()
    if kind and kind not in REGISTRIES:
        raise SlimformerError(f"no registry is called {kind!r}; there are: {', '.join(sorted(REGISTRIES))}")
    chosen = {name: registry for name, registry in sorted(REGISTRIES.items()) if kind in ("", name)}
    table = {name: {component: _entry(reg, component, options) for component in reg.names()} for name, reg in chosen.items()}
    show(table, as_json, lambda: [_registry_lines(name, chosen[name]) for name in chosen])


def _entry(registry: Registry[Any], name: str, with_options: bool) -> object:
    """A component in the JSON document: its summary, alone or with its options."""
    if not with_options:
        return registry.summary(name)
    options = {option.name: dataclasses.asdict(option) for option in options_of(registry.get(name))}
    without_names = {name: {key: text for key, text in option.items() if key != "name"} for name, option in options.items()}
    return {"summary": registry.summary(name), "options": without_names}


def _registry_lines(name: str, registry: Registry[Any]) -> str:
    """A registry as rich markup: a line for each component, and one for each of its options."""
    from rich.markup import escape

    lines = [f"[bold]{escape(name)}[/]"]
    for component, cls in registry:
        lines.append(f"  [cyan]{escape(component)}[/]  {escape(registry.summary(component))}")
        for option in options_of(cls):
            head = f"      {escape(option.name)} = {escape(option.default)}  [dim]{escape(option.type)}[/]"
            lines.append(head + (f"  {escape(option.meaning)}" if option.meaning else ""))
    return "\n".join(lines)


def inspect(
    checkpoint: Annotated[str, typer.Argument(help="A hub name, a folder, or package:DISTRIBUTION/FOLDER.")],
    length: Annotated[int, typer.Option(min=1, help="Tokens in an example, for FLOPs.")] = 128,
    check: Annotated[bool, typer.Option("--check", help="Load the weights and check the nine laws on them.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Propose a topology even if a backbone describes the model.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", parser=path, help="A plugin file to write with the proposed topology.")
    ] = None,
    plugin: Annotated[list[Path], typer.Option("--plugin", parser=path, help="A plugin file to load first. Repeatable.")] = [],  # noqa: B006
    options: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="An option of the backbone, e.g. hidden=true. Repeatable.")
    ] = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Show a model's topology: its axes, unit groups and block stacks, what is elastic, and what the extremes cost.

    Loads no weights. For a model that no backbone describes it proposes a topology found by tracing the model (with random
    weights), proves it by the laws, and names what stays whole and why: [bold]slimformer inspect MODEL --write mine.py[/]
    """
    load_plugins()
    from slimformer.cli.console import ConsoleReport
    from slimformer.discovery import inspect as inspection
    from slimformer.plugins import load_file
    from slimformer.reports.inspection import inspection_lines

    for file in plugin:
        load_file(file)
    if write is not None and write.suffix != ".py":
        raise SlimformerError(f"--write {write}: write the name of a Python file, for example --write my_backbone.py")
    if write is not None and (write.is_dir() or not write.absolute().parent.is_dir()):
        reason = "is a folder" if write.is_dir() else "lies in a folder that is not there"
        raise SlimformerError(f"--write {write} {reason}: write the name of a Python file in a folder that is there")
    quiet_libraries()
    chosen = {name: toml_value(name, text) for name, text in pairs("--set", options, "hidden=true")}
    request = inspection.Request(checkpoint, length, check, trace, write, chosen)
    found = inspection.inspect_checkpoint(request, ConsoleReport().say)
    show(found, as_json, lambda: inspection_lines(found))


def new_backbone(
    name: Annotated[str, typer.Argument(help="The name of the backbone, for example gpt_neox.")],
    to: Annotated[
        Path | None, typer.Option("--to", parser=path, help="The folder to write. By default slimformer-NAME.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a package with a backbone and its test, to start from: it installs, and its test passes."""
    from slimformer.discovery import new_backbone as template

    load_plugins()
    folder = to or Path(f"slimformer-{name.replace('_', '-')}")
    written = template.new_backbone(name, folder)
    found = {"folder": str(folder), "files": [str(file) for file in written]}
    from rich.markup import escape

    install = escape(f"pip install -e '{folder}[test]' && pytest {folder}")
    show(found, as_json, lambda: [*found["files"], f"install it and run its test: {install}"])
