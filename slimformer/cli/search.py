"""`slimformer search`: the best sub-network of a run under limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slimformer.cli.options import (
    JsonOption,
    RunOption,
    open_run,
    pairs,
    path,
    quiet_libraries,
    show,
    whole_number,
)
from slimformer.errors import SlimformerError
from slimformer.plugins import load_plugins


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
    storage: Annotated[
        Path | None, typer.Option(parser=path, help="A journal file through which several processes share a search.")
    ] = None,
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
    by_axis = {axis: whole_number(f"--multiple {axis}", text) for axis, text in pairs("--multiple", multiples, "width.ffn=64")}
    by_cost = _options(options)
    if bool(minimise) != bool(min_metric):
        raise SlimformerError("--minimise and --min-metric go together, for example --min-metric 80 --minimise latency")
    folder, recipe = open_run(run_folder)
    from slimformer.cli.console import ConsoleReport
    from slimformer.costs.base import Workload
    from slimformer.reports.search import search_lines
    from slimformer.runs.search import search_run
    from slimformer.runs.search_options import Cheapest, SearchOptions, SharedStudy

    work = recipe.evaluation.workload
    asked = SearchOptions(
        limits=tuple(limits), like=like or None, cheapest=Cheapest(minimise, min_metric) if minimise else None,
        strategy=strategy, max_ratings=max_ratings, rate_by=rate_by or None, probe=probe or None, seed=seed,  # type: ignore[arg-type]
        workload=Workload(batch_size or work.batch_size, length or work.length), cost_options=by_cost, multiples=by_axis,
        blocks=blocks or None, study=SharedStudy(storage, study) if storage else None,  # type: ignore[arg-type]
        finetune=finetune_steps if finetune else None,
    )  # fmt: skip
    quiet_libraries()
    found = search_run(folder, recipe, asked, ConsoleReport(quiet=quiet or as_json)).to_json()
    show(found, as_json, lambda: search_lines(found, folder.path))


def _limits(named: dict[str, str], at_most: list[str], minimise: str) -> list[Any]:
    from slimformer.costs.base import unit_of
    from slimformer.costs.quantity import parse_quantity
    from slimformer.search.base import Limit

    load_plugins()
    asked = [*((cost, text) for cost, text in named.items() if text), *pairs("--max", at_most, "flops=1G")]
    units = {cost: unit_of(cost) for cost in (*(cost for cost, _ in asked), *([minimise] if minimise else []))}
    return [Limit(cost, parse_quantity(text, units[cost]), units[cost]) for cost, text in asked]


def _options(items: list[str]) -> dict[str, dict[str, str]]:
    """Options of costs, by cost and name."""
    from slimformer.costs.base import COSTS

    found: dict[str, dict[str, str]] = {}
    for name, text in pairs("--set", items, "latency.threads=2"):
        cost, dot, key = name.partition(".")
        if not dot:
            raise SlimformerError(f"--set {name}: write COST.KEY=VALUE, for example --set latency.threads=2")
        COSTS.get(cost)
        found.setdefault(cost, {})[key] = text
    return found
