"""A search of a finished run: limits, costs, the strategy, and the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch

from slimformer.axes.base import Axis
from slimformer.axes.space import read_ratios
from slimformer.backbones.base import backbone_for
from slimformer.costs.base import COSTS, Cost, Pricer, is_measured, unit_of
from slimformer.errors import InfeasibleError, SearchError, SpaceError
from slimformer.importance import load_scores
from slimformer.progress import Report
from slimformer.recipe.schema import Recipe
from slimformer.reports.search_results import SearchResults
from slimformer.rewiring import Rewiring
from slimformer.runs.finetune import finetune
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import load_supernet
from slimformer.runs.outcome import read_results
from slimformer.runs.probe import Probe
from slimformer.runs.search_options import SearchOptions
from slimformer.runs.search_outcome import outcome_of, write_outcome, write_winner
from slimformer.search import (
    STRATEGIES,
    Best,
    Candidate,
    Cheapest,
    Coordinator,
    Goal,
    Limit,
    Problem,
    SharedJournal,
    SingleProcess,
    search,
)
from slimformer.supernet.names import SubnetNames
from slimformer.supernet.network import SuperNet
from slimformer.supernet.spec import SubnetSpec

Prices = dict[str, float]


def search_run(folder: RunFolder, recipe: Recipe, options: SearchOptions, report: Report) -> SearchResults:
    """Search a run's space; every rating is kept in the run folder, and those that are there already are not made again.

    Returns: candidates that meet the limits, best first, and the winner on the reporting split beside the best uniform
    sub-network; the same is in search.json.
    Raises: InfeasibleError, RunError, SearchError, SpaceError.
    """
    session = SearchSession.open(folder, recipe, options, report)
    problem, probe = session.problem(), session.probe
    coordinator, progress = session.coordinator(problem), _Progress(session, problem)
    report.begin("search", 0, options.max_ratings)
    try:
        found = search(problem, STRATEGIES.build(options.strategy), progress.rate, session.generator(), coordinator)
    finally:
        report.end("search")
    _check_metric(session, found[0])
    write_winner(folder, found[0])
    outcome = outcome_of(probe, problem, found, session.names)
    if options.finetune:
        outcome = replace(outcome, finetuned=_finetuned(session, found[0].spec, options.finetune))
    write_outcome(folder, outcome, session.supernet.topology)
    return outcome


@dataclass(frozen=True)
class SearchSession:
    """The state of one search of a run: its super-network, the probe, costs and limits."""

    folder: RunFolder
    recipe: Recipe
    options: SearchOptions
    report: Report
    supernet: SuperNet
    probe: Probe

    @staticmethod
    def open(folder: RunFolder, recipe: Recipe, options: SearchOptions, report: Report) -> SearchSession:
        """Load the super-network of a finished run."""
        results, supernet = read_results(folder), load_supernet(folder, recipe)
        return SearchSession(folder, recipe, options, report, supernet, Probe(folder, recipe, options, results, supernet))

    @cached_property
    def pricers(self) -> dict[str, Pricer]:
        """The run's costs and those that the options name, ready for the super-network."""
        options, backbone = self.options, backbone_for(self.supernet.model)
        goal = (options.cheapest.cost,) if options.cheapest else ()
        wanted = (*self.recipe.evaluation.costs, *(limit.cost for limit in options.limits), *goal, *options.cost_options)
        workload = options.workload or self.recipe.evaluation.workload
        return {name: self._cost(name).price(self.supernet, backbone, workload) for name in dict.fromkeys(wanted)}

    def _cost(self, name: str) -> Cost:
        """A cost with its options; a measured one keeps its table in the run folder."""
        from pydantic import TypeAdapter, ValidationError

        cls = COSTS.get(name)
        options = dict(self.options.cost_options.get(name, {}))
        try:
            cost: Any = TypeAdapter(cls).validate_python(options)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, (name, *first["loc"])))
            raise SearchError(f"--set {key}={options.get(str(first['loc'][0]), '')}: {first['msg'].lower()}") from None
        if not is_measured(name):
            return cast(Cost, cost)
        self.report.say(f"{name}: measured once for this machine and setting (a minute), then kept in {self.folder.measured}")
        return cast(Cost, replace(cost, folder=str(self.folder.measured)))

    def price(self, spec: SubnetSpec) -> Prices:
        """Every cost of a spec."""
        return {name: pricer(spec) for name, pricer in self.pricers.items()}

    def problem(self) -> Problem:
        """The space, limits and goal, as strategies see them."""
        options, space = self.options, self.recipe.space.to_space(self.supernet.topology)
        table = self.recipe.search.model_copy(
            update={"multiples": {**self.recipe.search.multiples, **options.multiples}}
            | ({"blocks": options.blocks} if options.blocks else {})
        )
        limits = (*options.limits, *self._like(self.price))
        goal: Goal = Best()
        if options.cheapest:
            goal = Cheapest(options.cheapest.cost, self.probe.measure.rating(options.cheapest.min_metric))
        return Problem(table.on(space), self.price, limits, goal, options.max_ratings, self._importance())

    def _like(self, price: Callable[[SubnetSpec], Prices]) -> tuple[Limit, ...]:
        """The limits that `like` asks for: those costs of the point that this search knows."""
        if not self.options.like:
            return ()
        run, colon, name = self.options.like.rpartition(":")
        results = read_results(RunFolder(Path(run))) if colon else self.probe.results
        ratios = [row.ratios for row in results.rows]
        axes = tuple(Axis(axis, tuple(sorted({found[axis] for found in ratios}))) for axis in ratios[0])
        meant = read_ratios(name, axes)
        row = next((row for row in results.rows if row.ratios == meant or row.name == name), None)
        if row is None:
            names = ", ".join(row.name for row in results.rows)
            raise SpaceError(f"--like: {name!r} is not a sub-network of {run or 'this run'}; there are: {names}")
        costs = row.costs if colon or row.spec is None else price(row.spec)
        return tuple(Limit(cost, value, unit_of(cost)) for cost, value in costs.items() if cost in self.pricers)

    def _importance(self) -> dict[str, list[float]]:
        """Each unit's importance in the super-network's order, from the run's scores and rewiring."""
        topology = self.supernet.topology
        if not self.folder.scores.is_file() or not self.folder.rewiring.is_file():
            return {}
        scores, orders = load_scores(self.folder.scores, topology), Rewiring.load(self.folder.rewiring, topology).orders
        return {name: [float(scores[name][unit]) for unit in order] for name, order in orders.items()}

    def generator(self) -> torch.Generator:
        """The randomness of the search."""
        return torch.Generator().manual_seed(self.recipe.seed if self.options.seed is None else self.options.seed)

    def coordinator(self, problem: Problem) -> Coordinator:
        """This process alone, or the shared journal of a study."""
        options = self.options
        if options.study is None:
            return SingleProcess()
        about = {
            "run": self.recipe.name,
            "probe": self.probe.name,
            "rating": "loss" if options.rates_loss else "metric",
            "limits": [[limit.cost, limit.most] for limit in problem.limits],
            "goal": [options.cheapest.cost, options.cheapest.min_metric] if options.cheapest else ["", 0.0],
            "blocks": problem.choices.blocks,
            "sizes": {name: list(sizes) for name, sizes in problem.choices.sizes.items()},
        }
        return SharedJournal(options.study.storage, options.study.name, about)

    @cached_property
    def names(self) -> SubnetNames:
        """The names of the run's sub-networks."""
        points = self.recipe.space.to_space(self.supernet.topology).points()
        return SubnetNames({point.spec: point.name for point in points})


class _Progress:
    """Rate specs for a search and show the best one so far."""

    def __init__(self, session: SearchSession, problem: Problem) -> None:
        self._session = session
        self._problem = problem
        self._best = (float("-inf"), "")

    def rate(self, spec: SubnetSpec) -> float:
        """The rating of a spec on the probe, higher is better."""
        probe = self._session.probe
        rating = probe.rating(probe.metrics(spec))
        prices = self._problem.price(spec)
        if rating > self._best[0] and all(prices[limit.cost] <= limit.most for limit in self._problem.limits):
            self._best = (rating, self._session.names.of(spec))
        self._session.report.advance("search", -1, {probe.rating_name: rating, f"best ({self._best[1]})": self._best[0]})
        return rating


def _check_metric(session: SearchSession, found: Candidate) -> None:
    """Raises: InfeasibleError where no rated sub-network is as good as the goal asks."""
    goal, measure = session.options.cheapest, session.probe.measure
    if goal and (found.rating or 0.0) < measure.rating(goal.min_metric):
        raise InfeasibleError(
            f"none of the rated sub-networks reaches {measure.text(goal.min_metric)} on the probe; the best, "
            f"{session.names.of(found.spec)}, has {measure.text(measure.rating(found.rating or 0.0))}. "
            "Ask less of --min-metric or raise --max-ratings"
        )


def _finetuned(session: SearchSession, spec: SubnetSpec, steps: int) -> dict[str, object]:
    """Train the winner alone for some steps, write it as a plain model, and rate it as before."""
    tuned, probe = finetune(session.folder, session.recipe, spec, steps, session.report), session.probe
    on_probe, judged = probe.of_trained(tuned, spec)
    return {
        "folder": str(session.folder.search / "finetuned"),
        "steps": steps,
        "probe": {"before": probe.rating(probe.metrics(spec)), "after": probe.rating(on_probe)},
        "metrics": {"before": probe.reported(spec), "after": judged},
    }
