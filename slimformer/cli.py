"""The command line. torch is imported only by the commands that compute."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimformer.commandline import RUNS, JsonOption, RunOption, SetOption, SubnetOption
from slimformer.commandline import open_run as _open
from slimformer.commandline import quiet_libraries as _quiet_libraries
from slimformer.commandline import show as _show
from slimformer.errors import SlimformerError
from slimformer.plugins import load_commands, load_plugins

if TYPE_CHECKING:
    from slimformer.recipe import Recipe
    from slimformer.rundir import RunFolder

app = typer.Typer(
    help="Make any pretrained transformer slimmable: train once, then pick the width and depth that fit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

INTERRUPTED = 130


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, e.g. recipes/quickstart.toml.")],
    overrides: SetOption = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option("--out", help="The run folder. By default runs/NAME.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", help="Begin with the finished steps of this run that the recipe would make alike."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan and the costs, train nothing.")
    ] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Make a model slimmable: do everything that a recipe says.

    The same command again goes on where it stopped. A variant of a finished run need not train the same teacher again:
    [bold]slimformer run RECIPE --set stage.depth.follow=[] --from runs/NAME[/]. Under torchrun or accelerate launch it uses all processes:
    [bold]torchrun --nproc-per-node 2 -m slimformer run RECIPE[/]
    """
    from slimformer.recipe_file import read_recipe
    from slimformer.rundir import RunFolder, folder_for

    parsed = read_recipe(recipe, overrides)
    folder = RunFolder(out or folder_for(parsed, RUNS))
    other = RunFolder(start) if start else None
    if dry_run:
        _dry_run(parsed, folder, other, as_json)
        return
    from slimformer import pipeline
    from slimformer.console import ConsoleReport, results_table
    from slimformer.processes import Processes

    _quiet_libraries()
    first = Processes().is_first
    results = pipeline.run(parsed, folder, ConsoleReport(quiet=quiet or not first), other)
    if first:
        _show(results | {"run": str(folder.path)}, as_json, lambda: [results_table(results), f"run folder: {folder.path}"])


@app.command()
def search(
    max_flops: Annotated[str, typer.Option(help="At most so many FLOPs (one multiply-add = 2), e.g. 1G.")] = "",
    max_macs: Annotated[str, typer.Option(help="At most so many multiply-adds, e.g. 500M.")] = "",
    max_params: Annotated[str, typer.Option(help="At most so many parameters, e.g. 30M.")] = "",
    max_latency: Annotated[str, typer.Option(help="At most so long a forward pass on this machine, e.g. 20ms.")] = "",
    max_memory: Annotated[str, typer.Option(help="At most so much memory in inference, e.g. 300MB.")] = "",
    at_most: Annotated[list[str], typer.Option("--max", metavar="COST=VALUE", help="A limit on any cost. Repeatable.")] = [],  # noqa: B006
    like: Annotated[str, typer.Option(help="Costs at most those of a point, e.g. w0.5-d0.75 or RUN:w0.5-d0.75.")] = "",
    min_metric: Annotated[float, typer.Option(help="With --minimise: a metric on the probe as good as this.")] = 0.0,
    minimise: Annotated[str, typer.Option(help="The cost to be lowest, e.g. latency, instead of the best rating.")] = "",
    run_folder: RunOption = None,
    strategy: Annotated[str, typer.Option(help="Who proposes sub-networks: see 'slimformer list strategies'.")] = "auto",
    max_ratings: Annotated[int, typer.Option(min=1, help="Rate at most so many, the uniform ones included.")] = 60,
    probe: Annotated[int, typer.Option(min=0, help="Held-out examples to rate on; 0: the whole calibration split.")] = 512,
    rate_by: Annotated[str, typer.Option(help="loss or metric, on the probe; metric with --minimise.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="Of the search; by default the recipe's.")] = None,
    blocks: Annotated[str, typer.Option(help="Which blocks may remain: any, spread or prefix.")] = "",
    multiples: Annotated[list[str], typer.Option("--multiple", metavar="AXIS=N", help="Steps of sizes. Repeatable.")] = [],  # noqa: B006
    batch_size: Annotated[int, typer.Option(min=0, help="Examples for which costs are stated; 0: the recipe's.")] = 0,
    length: Annotated[int, typer.Option(min=0, help="Tokens for which costs are stated; 0: the recipe's.")] = 0,
    options: Annotated[
        list[str], typer.Option("--set", metavar="COST.KEY=VALUE", help="An option of a cost, e.g. latency.threads=2.")
    ] = [],  # noqa: B006
    storage: Annotated[Path | None, typer.Option(help="A journal file through which several processes share a search.")] = None,
    study: Annotated[str, typer.Option(help="The shared search's name in the storage.")] = "search",
    finetune: Annotated[bool, typer.Option("--finetune", help="Train the winner alone for some steps afterwards.")] = False,
    finetune_steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of --finetune.")] = 100,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Find the best sub-network of a run, layer by layer, under limits on its cost.

    Examples: [bold]slimformer search --max-flops 1G --max-params 30M[/],
    [bold]slimformer search --max-latency 20ms[/], [bold]slimformer search --min-metric 80 --minimise flops[/]
    """
    named = {"flops": max_flops, "macs": max_macs, "params": max_params, "latency": max_latency, "memory": max_memory}
    limits = _limits(named, at_most, minimise)
    by_axis = {axis: _whole(f"--multiple {axis}", text) for axis, text in _pairs("--multiple", multiples, "width.ffn=64")}
    by_cost = _options(options)
    if bool(minimise) != bool(min_metric):
        raise SlimformerError("--minimise and --min-metric go together, for example --min-metric 80 --minimise latency")
    if rate_by not in ("", "loss", "metric") or (minimise and rate_by == "loss"):
        raise SlimformerError(f"--rate-by {rate_by}: write loss or metric; --min-metric needs metric")
    if blocks not in ("", "any", "spread", "prefix"):
        raise SlimformerError(f"--blocks {blocks}: write any, spread or prefix")
    folder, recipe = _open(run_folder)
    from slimformer.console import ConsoleReport, search_lines
    from slimformer.cost import Workload
    from slimformer.search_run import Request, search_run

    work = recipe.evaluation.workload
    request = Request(
        limits=tuple(limits), like=like, minimise=minimise, min_metric=min_metric, strategy=strategy, max_ratings=max_ratings,
        rate_by="metric" if rate_by == "metric" or minimise else "loss", probe=probe, seed=seed,
        workload=Workload(batch_size or work.batch_size, length or work.length), options=by_cost, multiples=by_axis,
        blocks=blocks, storage=storage, study=study, finetune=finetune_steps if finetune else 0,
    )  # fmt: skip
    _quiet_libraries()
    found = search_run(folder, recipe, request, ConsoleReport(quiet=quiet or as_json))
    _show(found, as_json, lambda: search_lines(found, folder.path))


@app.command()
def evaluate(
    subnet: SubnetOption = "",
    split: Annotated[
        str, typer.Option(help="A split of the run's task; by default the one that the results are stated on.")
    ] = "",
    run_folder: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score one sub-network of a run on a split."""
    folder, recipe = _open(run_folder)
    from slimformer import commands

    _quiet_libraries()
    found = commands.evaluate_run(folder, recipe, subnet, split)
    _show(found, as_json, lambda: _scores(found))


def _scores(found: dict[str, Any]) -> list[str]:
    from slimformer.results import measure_of

    scores = (f"  {metric}: {measure_of(found, metric).text(value)}" for metric, value in found["metrics"].items())
    return [f"{found['name']} on {found['split']}", *scores]


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", help="The folder to write.")],
    subnet: SubnetOption = "",
    run_folder: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut a sub-network out of a run as a folder that transformers loads without slimformer."""
    folder, recipe = _open(run_folder)
    from slimformer import commands

    _quiet_libraries()
    found = commands.export_run(folder, recipe, subnet, to)
    _show(found, as_json, lambda: [f"{found['name']} is in {to}", f"load it with: {found['load']}"])


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one task; the others are set against the first.")],
    plot: Annotated[Path | None, typer.Option("--plot", help="A PNG file to draw the comparison in.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare finished runs: mean and worst of their sub-networks, each sub-network, and what the training cost.

    Runs of one recipe with other seeds are one group, with mean and spread.
    """
    from slimformer.comparison import compare as compare_runs
    from slimformer.comparison import plot_comparison
    from slimformer.console import comparison_tables
    from slimformer.rundir import RunFolder, write_whole, writing

    found = compare_runs([RunFolder(folder) for folder in runs])
    if plot is not None:
        with writing(plot):
            write_whole(plot, lambda partial: plot_comparison(found, partial))
    _show(found, as_json, lambda: comparison_tables(found))


@app.command("list")
def list_components(
    kind: Annotated[str, typer.Argument(help="One registry, e.g. tasks; all of them by default.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the components that recipes can name: one line each, with their options."""
    from slimformer.registry import REGISTRIES

    load_plugins()
    if kind and kind not in REGISTRIES:
        raise SlimformerError(f"no registry is called {kind!r}; there are: {', '.join(sorted(REGISTRIES))}")
    chosen = {name: registry for name, registry in sorted(REGISTRIES.items()) if kind in ("", name)}
    table = {name: {component: reg.summary(component) for component in reg.names()} for name, reg in chosen.items()}
    _show(table, as_json, lambda: [_registry_lines(name, chosen[name]) for name in chosen])


@app.command()
def inspect(
    checkpoint: Annotated[str, typer.Argument(help="A hub name, a folder, or package:DISTRIBUTION/FOLDER.")],
    length: Annotated[int, typer.Option(help="Tokens in an example, for FLOPs.")] = 128,
    check: Annotated[bool, typer.Option("--check", help="Load the weights and check the eight laws on them.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Propose a topology even if a backbone describes the model.")] = False,
    write: Annotated[Path | None, typer.Option("--write", help="A plugin file to write with the proposed topology.")] = None,
    plugin: Annotated[list[Path], typer.Option("--plugin", help="A plugin file to load first. Repeatable.")] = [],  # noqa: B006
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
    from slimformer import inspection
    from slimformer.console import ConsoleReport
    from slimformer.plugins import load_file

    for file in plugin:
        load_file(file)
    if write is not None and write.suffix != ".py":
        raise SlimformerError(f"--write {write}: write the name of a Python file, for example --write my_backbone.py")
    _quiet_libraries()
    chosen = {name: _value(name, text) for name, text in _pairs("--set", options, "hidden=true")}
    request = inspection.Request(checkpoint, length, check, trace, write, chosen)
    found = inspection.inspect_checkpoint(request, ConsoleReport().say)
    _show(found, as_json, lambda: inspection.inspection_lines(found))


@app.command("new-backbone")
def new_backbone(
    name: Annotated[str, typer.Argument(help="What the backbone is to be called, for example gpt_neox.")],
    to: Annotated[Path | None, typer.Option("--to", help="The folder to write. By default slimformer-NAME.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a package with a backbone and its test, to start from: it installs, and its test passes."""
    from slimformer import new_backbone as template

    load_plugins()
    folder = to or Path(f"slimformer-{name.replace('_', '-')}")
    written = template.new_backbone(name, folder)
    found = {"folder": str(folder), "files": [str(path) for path in written]}
    from rich.markup import escape

    install = escape(f"pip install -e '{folder}[test]' && pytest {folder}")
    _show(found, as_json, lambda: [*found["files"], f"install it and run its test: {install}"])


def _limits(named: dict[str, str], at_most: list[str], minimise: str) -> list[Any]:
    from slimformer.cost import unit_of
    from slimformer.quantity import parse_quantity
    from slimformer.search.base import Limit

    load_plugins()
    pairs = [*((cost, text) for cost, text in named.items() if text), *_pairs("--max", at_most, "flops=1G")]
    units = {cost: unit_of(cost) for cost in (*(cost for cost, _ in pairs), *([minimise] if minimise else []))}
    return [Limit(cost, parse_quantity(text, units[cost]), units[cost]) for cost, text in pairs]


def _pairs(option: str, items: list[str], example: str) -> list[tuple[str, str]]:
    pairs = []
    for item in items:
        name, equals, text = item.partition("=")
        if not equals:
            kind = "COST" if option == "--max" else "NAME"
            raise SlimformerError(f"{option} {item}: write {kind}=VALUE, for example {option} {example}")
        pairs.append((name, text))
    return pairs


def _value(option: str, text: str) -> Any:
    """A TOML value."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise SlimformerError(f"--set {option}={text}: write a TOML value, for example --set hidden=true") from None


def _whole(option: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise SlimformerError(f"{option}={text}: write a whole number of 1 or more")
    return int(text)


def _options(items: list[str]) -> dict[str, dict[str, str]]:
    """Options of costs, by cost and name."""
    from slimformer.cost import COSTS

    found: dict[str, dict[str, str]] = {}
    for name, text in _pairs("--set", items, "latency.threads=2"):
        cost, dot, key = name.partition(".")
        if not dot:
            raise SlimformerError(f"--set {name}: write COST.KEY=VALUE, for example --set latency.threads=2")
        COSTS.get(cost)
        found.setdefault(cost, {})[key] = text
    return found


def _dry_run(recipe: Recipe, folder: RunFolder, start: RunFolder | None, as_json: bool) -> None:
    from slimformer import commands

    _quiet_libraries()
    plan = commands.plan(recipe, folder, start)
    _show(plan, as_json, lambda: [f"{name}: {value}" for name, value in plan.items() if name != "recipe"])


def _registry_lines(name: str, registry: Any) -> str:
    import dataclasses

    lines = [f"[bold]{name}[/]"]
    for component, cls in registry:
        options = ", ".join(field.name for field in dataclasses.fields(cls))
        lines.append(f"  [cyan]{component}[/]  {registry.summary(component)}" + (f"  [dim]({options})[/]" if options else ""))
    return "\n".join(lines)


@cache
def _add_commands_of_plugins() -> None:
    """Let the commands that plugins bring stand beside the built-in ones, whose names they cannot take."""
    taken = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    for name, function in load_commands().items():
        if name in taken:
            warnings.warn(f"a plugin's command {name!r} was left out: slimformer has one of that name", stacklevel=2)
        else:
            app.command(name)(function)


def main() -> None:
    """The console script: errors that a user can mend are one line (recipes: a line for each) and an exit code."""
    _add_commands_of_plugins()
    try:
        code = app(standalone_mode=False)  # typer turns Ctrl-C into the code 130, which it returns
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code or 0)
    except SlimformerError as error:
        print(f"slimformer: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("slimformer: stopped; nothing finished is lost, the same command goes on", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # typer's own usage errors
            error.show()
            sys.exit(error.exit_code)
        raise
