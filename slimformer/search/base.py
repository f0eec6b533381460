"""Limits, candidates, the protocol of strategies, and the search itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from slimformer.errors import InfeasibleError
from slimformer.quantity import format_quantity
from slimformer.registry import Registry
from slimformer.space import Space
from slimformer.topology import SubnetSpec

if TYPE_CHECKING:
    from torch import Generator


@dataclass(frozen=True)
class Limit:
    """A ceiling on a cost: `costs[cost] <= most`."""

    cost: str
    most: float

    def __str__(self) -> str:
        return f"{self.cost} <= {format_quantity(self.most)}"


@dataclass(frozen=True)
class Candidate:
    """A spec with its price in every cost, and its rating (higher is better) once it has one."""

    spec: SubnetSpec
    costs: Mapping[str, float]
    rating: float | None = None

    def meets(self, limits: Sequence[Limit]) -> bool:
        return all(self.costs[limit.cost] <= limit.most for limit in limits)

    def excess(self, limits: Sequence[Limit]) -> float:
        """By what factor the candidate exceeds the limit that it exceeds most; at most 1 where it meets all."""
        return max((self.costs[limit.cost] / limit.most for limit in limits), default=0.0)


class Strategy(Protocol):
    """Proposes specs, batch after batch, until it returns an empty one.

    Law: a function of its arguments. `seen` holds every candidate so far; only those that met the limits have a rating.
    """

    def ask(self, space: Space, seen: Sequence[Candidate], generator: Generator) -> Sequence[SubnetSpec]: ...


STRATEGIES: Registry[Strategy] = Registry("search strategy", "strategies")

Price = Callable[[SubnetSpec], Mapping[str, float]]
Rate = Callable[[SubnetSpec], float]


def search(
    space: Space, strategy: Strategy, price: Price, rate: Rate, limits: Sequence[Limit], generator: Generator
) -> list[Candidate]:
    """All candidates that meet every limit, best rating first (the cheaper one first among equals).

    Laws: everything returned meets every limit; a candidate over a limit is never rated, its cost being free to know.
    price: the value of every cost of a spec. rate: the metric of a spec, higher is better.
    Raises: InfeasibleError naming the nearest candidate where none meets the limits.
    """
    seen: list[Candidate] = []
    known: set[SubnetSpec] = set()
    while True:
        asked = [spec for spec in dict.fromkeys(strategy.ask(space, seen, generator)) if spec not in known]
        if not asked:
            break
        known.update(asked)
        for spec in asked:
            priced = Candidate(spec, price(spec))
            seen.append(Candidate(spec, priced.costs, rate(spec)) if priced.meets(limits) else priced)
    feasible = [candidate for candidate in seen if candidate.rating is not None]
    if not feasible:
        raise InfeasibleError(_nearest(space, seen, limits))
    return sorted(feasible, key=lambda c: (-(c.rating or 0.0), tuple(c.costs.values())))


def _nearest(space: Space, seen: Sequence[Candidate], limits: Sequence[Limit]) -> str:
    if not seen:
        return "the search strategy proposed no sub-network: choose another one"
    nearest = min(seen, key=lambda candidate: (candidate.excess(limits), tuple(candidate.costs.values())))
    name = next((point.name for point in space.points() if point.spec == nearest.spec), "a per-layer one")
    has = ", ".join(f"{limit.cost} {format_quantity(nearest.costs[limit.cost])}" for limit in limits)
    asked = " and ".join(str(limit) for limit in limits)
    return f"no sub-network has {asked}; the nearest, {name}, has {has}. Raise the limit or add smaller ratios to [space]"
