"""A finished run in Python."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from slimformer.axes.space import Space
from slimformer.costs.base import COSTS, unit_of
from slimformer.costs.quantity import parse_quantity
from slimformer.errors import SearchError
from slimformer.plugins import load_plugins
from slimformer.progress import Report, SilentReport
from slimformer.recipe.schema import Recipe
from slimformer.reports.run_results import RunResults
from slimformer.reports.search_results import FoundSubnet, SearchResults
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import load_supernet
from slimformer.runs.outcome import read_results
from slimformer.runs.recipe_file import recipe_of
from slimformer.runs.search import search_run
from slimformer.runs.search_options import Cheapest, SearchOptions
from slimformer.runs.subnets import Evaluation, Exported, evaluate_run, export_run
from slimformer.search import Limit
from slimformer.supernet.network import SuperNet
from slimformer.supernet.spec import SubnetSpec

Subnet = str | SubnetSpec | FoundSubnet
"""A sub-network by its name ("w0.5-d0.5"), by its spec, or as a search found it."""


@dataclass(frozen=True)
class Run:
    """A finished run: its results and super-network, and everything that the command line does with it.

    path: the run folder.
    Raises: RunError where the folder holds no finished run.

    >>> run = slimformer.Run("runs/sst2")
    >>> found = run.search(max_flops="1G", max_latency="20ms")
    >>> print(found.best.name, found.best.costs["flops"])
    >>> run.export(found.best, "small")
    """

    path: str | Path

    @property
    def folder(self) -> RunFolder:
        """The files of the run."""
        return RunFolder(Path(self.path))

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, with every default spelled out."""
        load_plugins()
        return recipe_of(self.folder)

    @property
    def results(self) -> RunResults:
        """The metrics and costs of every sub-network of the grid."""
        return read_results(self.folder)

    @cached_property
    def supernet(self) -> SuperNet:
        """The trained super-network, in eval mode."""
        return load_supernet(self.folder, self.recipe)

    @property
    def space(self) -> Space:
        """The grid of sub-networks."""
        return self.recipe.space.to_space(self.supernet.topology)

    def evaluate(self, subnet: Subnet = "", split: str = "") -> Evaluation:
        """Metrics of one sub-network, the full-size one by default; evaluated once and kept in the run folder.

        split: of the task; by default the one on which results are stated.
        """
        return evaluate_run(self.folder, self.recipe, _named(subnet), split)

    def export(self, subnet: Subnet, to: str | Path, dtype: str = "") -> Exported:
        """Write one sub-network as a folder that transformers loads without slimformer.

        dtype: number type of the weights, "float32", "float16" or "bfloat16"; by default the checkpoint's.
        """
        return export_run(self.folder, self.recipe, _named(subnet), Path(to), dtype)

    def search(
        self,
        options: SearchOptions | None = None,
        *,
        minimise: str | None = None,
        min_metric: float | None = None,
        max_ratings: int = 60,
        report: Report | None = None,
        **limits: str | float,
    ) -> SearchResults:
        """Find the best sub-network, layer by layer, under limits on its cost.

        options: everything at once; the other arguments are shorthands for the most common ones.
        limits: max_COST = a quantity, such as max_flops="1G", max_params="20M", max_latency="20ms".
        minimise, min_metric: the cost to be lowest, with a metric on the probe of at least `min_metric`.
        report: where progress goes; nowhere by default.
        Raises: InfeasibleError where nothing meets the limits; SearchError for options that do not fit together.
        """
        asked = options or _options(minimise, min_metric, max_ratings, limits)
        return search_run(self.folder, self.recipe, asked, report or SilentReport())


def _options(minimise: str | None, min_metric: float | None, max_ratings: int, limits: dict[str, str | float]) -> SearchOptions:
    if (minimise is None) != (min_metric is None):
        raise SearchError('minimise and min_metric go together, for example minimise="latency", min_metric=80')
    cheapest = None if minimise is None or min_metric is None else Cheapest(minimise, min_metric)
    return SearchOptions(
        limits=tuple(_limit(name, value) for name, value in limits.items()),
        cheapest=cheapest,
        max_ratings=max_ratings,
        probe=None if cheapest else 512,
    )


def _limit(name: str, value: str | float) -> Limit:
    """Raises: SearchError for a name that is no `max_COST`; UnknownComponentError for an unknown cost."""
    load_plugins()
    if not name.startswith("max_"):
        raise SearchError(f"{name}: write max_COST, for example max_flops='1G'; costs: {', '.join(COSTS.names())}")
    cost = name.removeprefix("max_")
    unit = unit_of(cost)
    return Limit(cost, parse_quantity(value, unit) if isinstance(value, str) else float(value), unit)


def _named(subnet: Subnet) -> str | SubnetSpec:
    return subnet.spec if isinstance(subnet, FoundSubnet) else subnet
