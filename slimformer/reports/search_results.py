"""Results of a search, as in search.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from slimformer.costs.base import Workload
from slimformer.supernet.spec import SubnetSpec
from slimformer.tasks.base import Measure

Json = dict[str, object]


@dataclass(frozen=True)
class FoundSubnet:
    """A sub-network that a search rated.

    rating: on the probe, higher is better.
    costs: by cost, in the units that `SearchResults.costs` states.
    metrics: on the split on which results are stated; empty where it was not evaluated there.
    """

    name: str
    rating: float | None
    costs: Mapping[str, float]
    spec: SubnetSpec
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> Json:
        """The row in search.json."""
        row: Json = {"name": self.name, "rating": self.rating, "costs": dict(self.costs), "spec": self.spec.to_json()}
        return row | ({"metrics": dict(self.metrics)} if self.metrics else {})


@dataclass(frozen=True)
class SearchResults:
    """The outcome of a search: candidates that meet every limit, the best one first.

    rating: the name of the rating and the probe. limits: as text. minimise: the cost that was to be lowest, "" for none.
    choices: sub-networks in the space. costs: the unit of each cost. best, uniform: the winner and the best uniform
    sub-network (None if none meets the limits), with metrics on the reporting split.
    solver: the statement of the exact solver, where one ran. finetuned: metrics before and after training the winner alone.
    """

    name: str
    metric: str
    measure: Measure
    split: str
    rating: str
    limits: tuple[str, ...]
    minimise: str
    strategy: str
    choices: int
    costs: Mapping[str, str]
    workload: Workload
    candidates: tuple[FoundSubnet, ...]
    best: FoundSubnet
    uniform: FoundSubnet | None
    spec_file: str
    solver: Mapping[str, object] | None = None
    finetuned: Mapping[str, object] | None = None

    def pareto_front(self, cost: str) -> tuple[FoundSubnet, ...]:
        """The candidates to which no other is both cheaper and better rated, the cheapest first.

        Raises: KeyError for a cost that the search did not state.
        """
        front: list[FoundSubnet] = []
        for found in sorted(self.candidates, key=lambda found: (found.costs[cost], -(found.rating or 0.0))):
            if not front or (found.rating or 0.0) > (front[-1].rating or 0.0):
                front.append(found)
        return tuple(front)

    def to_json(self) -> Json:
        """The document of search.json and `--json`."""
        found: Json = {
            "name": self.name,
            "metric": self.metric,
            "measures": {self.metric: asdict(self.measure)},
            "split": self.split,
            "rating": self.rating,
            "limits": list(self.limits),
            "minimise": self.minimise,
            "strategy": self.strategy,
            "choices": self.choices,
            "costs": dict(self.costs),
            "workload": {"batch_size": self.workload.batch_size, "length": self.workload.length},
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "winner": self.best.to_json(),
            "uniform": self.uniform.to_json() if self.uniform else {},
            "spec_file": self.spec_file,
        }
        found |= {"solver": dict(self.solver)} if self.solver is not None else {}
        return found | ({"finetuned": dict(self.finetuned)} if self.finetuned is not None else {})
