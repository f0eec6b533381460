"""A search of a finished run: limits, costs, the probe on which candidates are rated, and the outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from slimformer.axes.base import Axis
from slimformer.axes.space import read_ratios
from slimformer.backbones.base import backbone_for
from slimformer.costs.base import COSTS, Pricer, Workload, is_measured, unit_of
from slimformer.errors import InfeasibleError, SearchError, SpaceError
from slimformer.files import write_text, writing
from slimformer.importance import load_scores
from slimformer.progress import Report
from slimformer.recipe.schema import Recipe
from slimformer.reports.results import measure_of
from slimformer.rewiring import Rewiring
from slimformer.runs.finetune import finetune
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import load_supernet
from slimformer.runs.ratings import RatingKey, Ratings
from slimformer.runs.search_outcome import write_pictures
from slimformer.search import STRATEGIES, Best, Candidate, Cheapest, Goal, Ledger, Limit, Problem, Shared, search
from slimformer.search.journal import Alone
from slimformer.search.milp import certificate
from slimformer.supernet.network import SuperNet
from slimformer.supernet.spec import SubnetSpec
from slimformer.tasks.base import Measure, TaskData
from slimformer.tasks.evaluation import evaluate, measure

RateBy = Literal["loss", "metric"]

SOLVERS = ("auto", "milp")
"""The strategies whose outcome states the optimality gap."""


@dataclass(frozen=True)
class Request:
    """What is asked of a search of a run.

    limits: ceilings on costs. like: a point, "NAME" or "RUN:NAME", whose costs are ceilings too.
    minimise: the cost to be lowest, with a metric as good as `min_metric`; "" for the best rating instead.
    rate_by: "loss" or "metric", on `probe` examples of the calibration split (0: all of it).
    workload: the inputs for which costs are stated, None for the recipe's. options: of costs, by cost and name.
    multiples, blocks: override the recipe's `[search]`.
    storage, study: the journal file and the name of a search that several processes share.
    finetune: optimizer steps for the winner alone.
    """

    limits: tuple[Limit, ...] = ()
    like: str = ""
    minimise: str = ""
    min_metric: float = 0.0
    strategy: str = "auto"
    max_ratings: int = 60
    rate_by: RateBy = "loss"
    probe: int = 512
    seed: int | None = None
    workload: Workload | None = None
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    multiples: Mapping[str, int] = field(default_factory=dict)
    blocks: str = ""
    storage: Path | None = None
    study: str = "search"
    finetune: int = 0


def search_run(folder: RunFolder, recipe: Recipe, request: Request, report: Report) -> dict[str, Any]:
    """Search a run's space; every rating is kept in the run folder, and those that are there already are not made again.

    Returns: the outcome, as in search.json: candidates that meet the limits, best first, and the winner on the reporting
    split beside the best uniform sub-network.
    Raises: InfeasibleError, RunError, SearchError, SpaceError.
    """
    work = Desk.open(folder, recipe, request, report)
    problem = work.problem()
    strategy = STRATEGIES.build(request.strategy)
    ledger = work.ledger(problem)
    report.begin("search", 0, request.max_ratings)
    try:
        found = search(problem, strategy, lambda spec: work.rate(problem, spec), work.generator(), ledger)
    finally:
        report.end("search")
    if request.minimise and (found[0].rating or 0.0) < work.measure.rating(request.min_metric):
        best = work.measure.text(work.measure.rating(found[0].rating or 0.0))
        raise InfeasibleError(
            f"none of the rated sub-networks reaches {work.measure.text(request.min_metric)} on the probe; the best, "
            f"{work.name(found[0].spec)}, has {best}. Ask less of --min-metric or raise --max-ratings"
        )
    outcome = work.outcome(problem, found)
    if request.strategy in SOLVERS:
        outcome["solver"] = work.solver(problem, found)
    if request.finetune:
        outcome["finetuned"] = work.finetune(found[0].spec)
    with writing(folder.path):
        write_text(folder.path / "search.json", json.dumps(outcome, indent=2))
        write_pictures(outcome, work.supernet.topology, folder.search)
    return outcome


@dataclass
class Desk:
    """What the steps of a search of a run share."""

    folder: RunFolder
    recipe: Recipe
    request: Request
    report: Report
    results: Mapping[str, Any]
    supernet: SuperNet
    best: tuple[float, str] = (float("-inf"), "")

    @staticmethod
    def open(folder: RunFolder, recipe: Recipe, request: Request, report: Report) -> Desk:
        STRATEGIES.build(request.strategy)
        return Desk(folder, recipe, request, report, folder.read_results(), load_supernet(folder, recipe))

    @cached_property
    def data(self) -> TaskData:
        """The run's data, loaded when the first rating is needed."""
        return self.recipe.task.load(str(self.folder.supernet))

    @cached_property
    def pricers(self) -> dict[str, Pricer]:
        """The run's costs and those that the request names, ready for the super-network."""
        workload = self.request.workload or self.recipe.evaluation.workload
        wanted = (*self.recipe.evaluation.costs, *(limit.cost for limit in self.request.limits), self.request.minimise)
        backbone = backbone_for(self.supernet.model)
        return {
            name: self._cost(name).price(self.supernet, backbone, workload)
            for name in dict.fromkeys((*wanted, *self.request.options))
            if name
        }

    def _cost(self, name: str) -> Any:
        """A cost with the options that the request gives it; a measured one keeps its table in the run folder."""
        from pydantic import TypeAdapter, ValidationError

        cls = COSTS.get(name)
        options = dict(self.request.options.get(name, {}))
        try:
            cost: Any = TypeAdapter(cls).validate_python(options)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, (name, *first["loc"])))
            raise SearchError(f"--set {key}={options.get(str(first['loc'][0]), '')}: {first['msg'].lower()}") from None
        if not is_measured(name):
            return cost
        self.report.say(f"{name}: measured once for this machine and setting (a minute), then kept in {self.folder.measured}")
        return replace(cost, folder=str(self.folder.measured))

    def problem(self) -> Problem:
        space = self.recipe.space.to_space(self.supernet.topology)
        table = self.recipe.search.model_copy(
            update={"multiples": {**self.recipe.search.multiples, **self.request.multiples}}
            | ({"blocks": self.request.blocks} if self.request.blocks else {})
        )

        def price(spec: SubnetSpec) -> dict[str, float]:
            return {name: pricer(spec) for name, pricer in self.pricers.items()}

        limits = (*self.request.limits, *self._like(price))
        least = self.measure.rating(self.request.min_metric)
        goal: Goal = Cheapest(self.request.minimise, least) if self.request.minimise else Best()
        return Problem(table.on(space), price, limits, goal, self.request.max_ratings, self._importance())

    def _like(self, price: Any) -> tuple[Limit, ...]:
        """The limits that `like` asks for: those costs of the point that this search knows."""
        if not self.request.like:
            return ()
        run, colon, name = self.request.like.rpartition(":")
        results = RunFolder(Path(run)).read_results() if colon else self.results
        axes = tuple(
            Axis(axis, tuple(sorted({row["ratios"][axis] for row in results["rows"]}))) for axis in results["rows"][0]["ratios"]
        )
        ratios = read_ratios(name, axes)
        row = next((row for row in results["rows"] if row["ratios"] == ratios or row["name"] == name), None)
        if row is None:
            names = ", ".join(row["name"] for row in results["rows"])
            raise SpaceError(f"--like: {name!r} is not a sub-network of {run or 'this run'}; there are: {names}")
        costs = row["costs"] if colon else price(SubnetSpec.from_json(row["spec"]))
        return tuple(Limit(cost, value, unit_of(cost)) for cost, value in costs.items() if cost in self.pricers)

    def _importance(self) -> dict[str, list[float]]:
        """Each unit's importance in the super-network's order, from the run's scores and rewiring."""
        topology = self.supernet.topology
        if not self.folder.scores.is_file() or not self.folder.rewiring.is_file():
            return {}
        scores, orders = load_scores(self.folder.scores, topology), Rewiring.load(self.folder.rewiring, topology).orders
        return {name: [float(scores[name][unit]) for unit in order] for name, order in orders.items()}

    def generator(self) -> torch.Generator:
        seed = self.recipe.seed if self.request.seed is None else self.request.seed
        return torch.Generator().manual_seed(seed)

    def ledger(self, problem: Problem) -> Ledger:
        if self.request.storage is None:
            return Alone()
        about = {
            "run": self.recipe.name,
            "probe": self.probe_name,
            "rating": self.request.rate_by,
            "limits": [[limit.cost, limit.most] for limit in problem.limits],
            "goal": [self.request.minimise, self.request.min_metric],
            "blocks": problem.choices.blocks,
            "sizes": {name: list(sizes) for name, sizes in problem.choices.sizes.items()},
        }
        return Shared(self.request.storage, self.request.study, about)

    @cached_property
    def probe(self) -> list[Any]:
        """The examples on which candidates are rated.

        Raises: SearchError where there is none, or where the metric cannot be had from so few.
        """
        split = self.data.split("calibration")
        chosen = [split[i] for i in range(min(self.request.probe or len(split), len(split)))]
        if not chosen:
            raise SearchError(
                "the calibration split is empty, so nothing can be rated: give the task a larger calibration_size"
            )
        if self.request.rate_by == "metric" and len(chosen) < len(split):
            raise SearchError(
                f"the metric needs the whole calibration split of {len(split)} examples: write --probe 0, or --rate-by loss"
            )
        return chosen

    @property
    def measure(self) -> Measure:
        """How the run's main metric is read."""
        return measure_of(self.results)

    @property
    def probe_name(self) -> str:
        return f"probe:{len(self.probe)} of calibration"

    def rate(self, problem: Problem, spec: SubnetSpec) -> float:
        """The rating of a spec on the probe, higher is better; the progress shows the best so far."""
        metrics = self.probe_metrics(spec)
        rating = self.rating(metrics)
        if rating > self.best[0] and all(problem.price(spec)[limit.cost] <= limit.most for limit in problem.limits):
            self.best = (rating, self.name(spec))
        self.report.advance("search", -1, {self.rating_name: rating, f"best ({self.best[1]})": self.best[0]})
        return rating

    @property
    def rating_name(self) -> str:
        return "-loss" if self.request.rate_by == "loss" else "-" * self.measure.lower_is_better + str(self.results["metric"])

    def rating(self, metrics: Mapping[str, float]) -> float:
        return -metrics["loss"] if self.request.rate_by == "loss" else self.measure.rating(metrics[self.results["metric"]])

    @cached_property
    def ratings(self) -> Ratings:
        return Ratings(self.folder)

    def probe_metrics(self, spec: SubnetSpec) -> dict[str, float]:
        """The metrics on the probe."""
        key = RatingKey(self.recipe.snapshots[-1], self.probe_name, spec)
        size = self.recipe.evaluation.batch_size
        return self.ratings.get(key, lambda: measure(self.supernet, spec, self.data, self.probe, size))

    def report_metrics(self, spec: SubnetSpec) -> dict[str, float]:
        """The metrics on the split that results are stated on."""
        key = RatingKey(self.recipe.snapshots[-1], self.results["split"], spec)
        size = self.recipe.evaluation.batch_size
        return self.ratings.get(key, lambda: evaluate(self.supernet.frozen(spec), self.data, key.split, size))

    @cached_property
    def names(self) -> dict[SubnetSpec, str]:
        return {point.spec: point.name for point in self.recipe.space.to_space(self.supernet.topology).points()}

    def name(self, spec: SubnetSpec) -> str:
        """A point's name, or, for a per-layer spec, "layers-" and the first digits of its hash."""
        import hashlib

        digest = hashlib.sha256(repr(spec.key).encode()).hexdigest()[:6]
        return self.names.get(spec, f"layers-{digest}")

    def outcome(self, problem: Problem, found: Sequence[Candidate]) -> dict[str, Any]:
        """Everything as data; ratings are on the probe, `winner` and `uniform` also on the reporting split."""
        uniform = next(candidate for candidate in found if candidate.spec in self.names) if self._has_uniform(found) else None
        workload = self.request.workload or self.recipe.evaluation.workload
        with writing(self.folder.path):
            self.folder.search.mkdir(exist_ok=True)
            write_text(self.folder.search / "winner.json", json.dumps(found[0].spec.to_json(), indent=2))
        return {
            "name": self.recipe.name,
            "metric": self.results["metric"],
            "measures": {self.results["metric"]: asdict(self.measure)},
            "split": self.results["split"],
            "rating": f"{self.rating_name} on {self.probe_name.removeprefix('probe:')}",
            "limits": [str(limit) for limit in problem.limits],
            "minimise": self.request.minimise,
            "strategy": self.request.strategy,
            "choices": problem.choices.count(),
            "costs": {name: unit_of(name) for name in self.pricers},
            "workload": {"batch_size": workload.batch_size, "length": workload.length},
            "candidates": [self._row(candidate) for candidate in found],
            "winner": self._judged(found[0]),
            "uniform": self._judged(uniform) if uniform else {},
            "spec_file": str(self.folder.search / "winner.json"),
        }

    def _has_uniform(self, found: Sequence[Candidate]) -> bool:
        return any(candidate.spec in self.names for candidate in found)

    def _row(self, candidate: Candidate) -> dict[str, Any]:
        spec, name = candidate.spec, self.name(candidate.spec)
        return {"name": name, "rating": candidate.rating, "costs": dict(candidate.costs), "spec": spec.to_json()}

    def _judged(self, candidate: Candidate) -> dict[str, Any]:
        return self._row(candidate) | {"metrics": self.report_metrics(candidate.spec)}

    def solver(self, problem: Problem, found: Sequence[Candidate]) -> dict[str, Any]:
        """What the exact solver says at the end, its values refitted to all ratings."""
        solution = certificate(problem, found)
        if solution is None:
            return {}
        gap = {"gap": solution.gap, "seconds": solution.seconds, "additive value": solution.value}
        return gap | {"spec": solution.spec.to_json(), "rated": any(c.spec == solution.spec for c in found)}

    def finetune(self, spec: SubnetSpec) -> dict[str, Any]:
        """Train the winner alone for some steps, write it as a plain model, and rate it as before."""
        tuned = finetune(self.folder, self.recipe, spec, self.request.finetune, self.report)
        size = self.recipe.evaluation.batch_size
        before, after = self.probe_metrics(spec), measure(tuned, spec, self.data, self.probe, size)
        judged = evaluate(tuned.frozen(spec), self.data, self.results["split"], size)
        return {
            "folder": str(self.folder.search / "finetuned"),
            "steps": self.request.finetune,
            "probe": {"before": self.rating(before), "after": self.rating(after)},
            "metrics": {"before": self.report_metrics(spec), "after": judged},
        }
