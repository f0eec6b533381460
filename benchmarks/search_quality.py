"""Searches of a finished run at several budgets: the per-layer winner beside the best uniform sub-network.

Give a copy of the run folder: ratings are kept in it, so that this goes on where it was stopped and repeats nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from common import table
from rich.console import Console

from slimformer.backbones import backbone_for
from slimformer.cli.console import ConsoleReport
from slimformer.costs import COSTS, Workload, unit_of
from slimformer.plugins import load_plugins
from slimformer.recipe import Recipe
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import load_supernet
from slimformer.runs.recipe_file import recipe_of
from slimformer.runs.search import Request, search_run
from slimformer.search import Limit


@dataclass(frozen=True)
class Found:
    """One search: the ratings (minus the loss) on the probe, the metric in percent on the reporting split."""

    cost: str
    budget: float
    strategy: str
    seed: int
    used: float
    winner: float
    uniform: float
    winner_metric: float
    uniform_metric: float

    @staticmethod
    def of(outcome: dict[str, Any], cost: str, budget: float, most: float, seed: int) -> Found:
        best, uniform, metric = outcome["winner"], outcome["uniform"], outcome["metric"]
        return Found(
            cost, budget, outcome["strategy"], seed, best["costs"][cost] / most, best["rating"], uniform["rating"],
            best["metrics"][metric], uniform["metrics"][metric],
        )  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path, help="a copy of a finished run's folder")
    options.add_argument("--costs", nargs="+", default=("flops", "latency"))
    options.add_argument("--budgets", nargs="+", type=float, default=(0.75, 0.5, 0.3), help="of the whole model's cost")
    options.add_argument("--strategies", nargs="+", default=("auto", "evolution"))
    options.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    options.add_argument("--max-ratings", type=int, default=60)
    options.add_argument("--probe", type=int, default=512)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--clock", choices=("cpu", "wall"), default="cpu", help="of the latency table")
    options.add_argument("--json", type=Path)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    load_plugins()
    folder = RunFolder(arguments.run)
    recipe, found = recipe_of(folder), list[Found]()
    for cost in arguments.costs:
        settings = {"clock": arguments.clock} if cost == "latency" else {}
        whole = price_of_whole(folder, recipe, cost, settings)
        for budget in arguments.budgets:
            for seed in arguments.seeds:
                for strategy in arguments.strategies:
                    request = Request(
                        limits=(Limit(cost, budget * whole, unit_of(cost)),), strategy=strategy, seed=seed,
                        max_ratings=arguments.max_ratings, probe=arguments.probe, options={cost: settings},
                    )  # fmt: skip
                    outcome = search_run(folder, recipe, request, ConsoleReport())
                    found.append(Found.of(outcome, cost, budget, budget * whole, seed))
                    print(found[-1], flush=True)
                    if arguments.json:
                        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    show(found)


def price_of_whole(folder: RunFolder, recipe: Recipe, cost: str, settings: dict[str, str]) -> float:
    """The full-size model's cost at the recipe's workload."""
    supernet = load_supernet(folder, recipe)
    kept = {"folder": str(folder.measured)} if cost == "latency" else {}
    workload: Workload = recipe.evaluation.workload
    component = COSTS.build({"name": cost, **settings, **kept})
    return component.price(supernet, backbone_for(supernet.model), workload)(supernet.topology.full)


def show(found: list[Found]) -> None:
    """A row for each cost, budget and strategy: means over the seeds."""
    rows = []
    for cost, budget, strategy in dict.fromkeys((one.cost, one.budget, one.strategy) for one in found):
        same = [one for one in found if (one.cost, one.budget, one.strategy) == (cost, budget, strategy)]

        def mean(name: str, same: list[Found] = same) -> str:
            return f"{statistics.mean(getattr(one, name) for one in same):.4g}"

        names = ("used", "winner", "uniform", "winner_metric", "uniform_metric")
        worse = sum(one.winner < one.uniform for one in same)
        rows.append((f"{cost} {budget:.0%} {strategy}", len(same), *map(mean, names), worse))
    columns = ("budget", "seeds", "used", "probe", "uniform", "metric, %", "uniform, %", "worse on the probe")
    Console(width=128).print(table("searches: means over the seeds", columns, rows))


if __name__ == "__main__":
    main()
