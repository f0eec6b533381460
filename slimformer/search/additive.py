"""Additive functions of a spec: what costs are (found out by finite differences), and what ratings are taken to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

from slimformer.search.choices import Choices
from slimformer.search.neighbours import draw
from slimformer.supernet.spec import SubnetSpec

if TYPE_CHECKING:
    import numpy as np

    from slimformer.search.base import Candidate, Problem

Price = Callable[[SubnetSpec], float]

Place = tuple[str, int]
"""A stack's name and the index of a block in it."""


@dataclass(frozen=True)
class Additive:
    """`f(spec) = base + sum over the groups g that remain of units[g][size of g] + sum over the remaining blocks of blocks[b]`."""

    base: float
    units: Mapping[str, Mapping[int, float]]
    blocks: Mapping[Place, float]

    def __call__(self, spec: SubnetSpec) -> float:
        groups = sum(self.units[name][size] for name, size in spec.units.items())
        return self.base + groups + sum(self.blocks[stack, block] for stack, kept in spec.blocks.items() for block in kept)


def additive_price(choices: Choices, price: Price, at: Mapping[str, int]) -> Additive:
    """The additive function that equals a price wherever the price is additive, by finite differences from one spec.

    at: the size of every group there; all blocks remain.
    Law: it equals the price of every spec if the price is a sum over groups and blocks; parameters, FLOPs and a latency
    table are (a counter's polynomial is linear in the units of each group).
    """
    topology = choices.topology
    here = price(topology.spec(at, {}))
    steps = {
        name: {size: price(topology.spec({**at, name: size}, {})) - here for size in sizes}
        for name, sizes in choices.sizes.items()
    }
    blocks = {}
    for stack in topology.stacks:
        every = range(stack.num_blocks)
        for block in every:
            rest = topology.spec(at, {stack.name: [b for b in every if b != block]}) if stack.num_blocks > 1 else None
            blocks[stack.name, block] = here - price(rest) if rest else 0.0
    return Additive(here - sum(blocks.values()), steps, blocks)


def additivity(price: Price, model: Additive, specs: Sequence[SubnetSpec]) -> float:
    """The largest relative error of an additive function on some specs."""
    return max((abs(model(spec) - price(spec)) / abs(price(spec)) for spec in specs if price(spec)), default=0.0)


PROBES = 40
"""Random specs on which an additive function is compared with a price."""

EXACT = 1e-9
"""The relative error up to which a price counts as additive."""


def lower_bounds(choices: Choices, price: Price) -> tuple[Additive, ...]:
    """Additive functions whose maximum is a price, or nearly: one where the price is additive.

    A price that is a maximum (peak memory: of what each block needs) is not additive, but a limit on it is a limit on each
    additive function of the maximum. There is one for each group, found by finite differences from the spec that keeps this
    group whole and all others smallest. What another group adds is counted as it is there or in the whole model, whichever
    is less; what is above the price of some random spec even so is lowered.
    """
    largest = {name: sizes[-1] for name, sizes in choices.sizes.items()}
    smallest = {name: sizes[0] for name, sizes in choices.sizes.items()}
    random = Random(0)
    specs = [draw(choices, random) for _ in range(PROBES)]
    whole = additive_price(choices, price, largest)
    if additivity(price, whole, specs) < EXACT:
        return (whole,)
    bounds = [_at_most(additive_price(choices, price, {**smallest, name: size}), whole, name) for name, size in largest.items()]
    return tuple(replace(b, base=b.base - max(0.0, *(b(spec) - price(spec) for spec in specs))) for b in bounds)


def _at_most(bound: Additive, whole: Additive, group: str) -> Additive:
    """A bound whose every group but one adds at most what it adds in the whole model."""

    def least(name: str) -> dict[int, float]:
        beyond = whole.units[name]
        first = beyond[min(beyond)]
        return {size: min(step, beyond[size] - first) for size, step in bound.units[name].items()}

    return replace(bound, units={name: steps if name == group else least(name) for name, steps in bound.units.items()})


BASIS_PRIOR = 0.5
"""The share of a group's first weight that its importance decides; the rest is the same for all."""


@dataclass(frozen=True)
class Basis:
    """The additive model of ratings: each group is worth a weight times the share of its importance that remains.

    curves: for each group and size, the share of importance in the units kept, in [0, 1]; without importance the first
        units count more than the last ones, as a rewiring would have it: `1 - (1 - n / N)^2`.
    weights: how the worth of the whole model is shared out before anything is rated; sums to 1 over the groups.
    """

    curves: Mapping[str, Mapping[int, float]]
    weights: Mapping[str, float]
    places: tuple[Place, ...]

    @staticmethod
    def of(problem: Problem) -> Basis:
        groups = problem.topology.groups
        curves, totals = {}, {}
        for group in groups:
            scores = [max(0.0, float(score)) for score in problem.importance.get(group.name, ())]
            kept = [0.0, *accumulate(scores)]
            total = totals[group.name] = kept[-1]
            curves[group.name] = {
                size: kept[size] / total if total else 1 - (1 - size / group.num_units) ** 2
                for size in problem.choices.sizes[group.name]
            }
        everything, equal = sum(totals.values()), 1 / max(1, len(groups))
        weights = {
            name: BASIS_PRIOR * total / everything + (1 - BASIS_PRIOR) * equal if everything else equal
            for name, total in totals.items()
        }
        places = tuple((stack.name, block) for stack in problem.topology.stacks for block in range(stack.num_blocks))
        return Basis(curves, weights, places)

    def row(self, spec: SubnetSpec) -> np.ndarray:
        """The features of a spec, Float[ndarray, "groups + blocks"]."""
        import numpy as np

        kept = {(stack, block) for stack, blocks in spec.blocks.items() for block in blocks}
        groups = [self.curves[name][spec.units[name]] if name in spec.units else 0.0 for name in self.curves]
        return np.array([*groups, *(float(place in kept) for place in self.places)])

    def prior(self) -> np.ndarray:
        """The weights of the features before any rating; a block by itself is worth as much as a mean group."""
        import numpy as np

        return np.array([*self.weights.values(), *(1 / max(1, len(self.curves)) for _ in self.places)])

    def additive(self, intercept: float, weights: np.ndarray) -> Additive:
        names = list(self.curves)
        units = {name: {n: float(weights[i] * c) for n, c in self.curves[name].items()} for i, name in enumerate(names)}
        return Additive(intercept, units, {place: float(weights[len(names) + i]) for i, place in enumerate(self.places)})


def fit_values(problem: Problem, seen: Sequence[Candidate]) -> Additive:
    """The additive values that explain the ratings so far: least squares, pulled to the prior, no weight below zero.

    Minimises `sum_i ((r_i - a - w . x_i) / noise)^2 + sum_j ((w_j - k p_j) / (k mean(p)))^2` over `w >= 0`, where the
    intercept `a` and the scale `k` fit the prior alone to the ratings.
    """
    import numpy as np
    from scipy.optimize import lsq_linear

    basis = Basis.of(problem)
    rated = [candidate for candidate in seen if candidate.rating is not None]
    prior = basis.prior()
    if len(rated) < 3:
        return basis.additive(0.0, prior)
    rows, ratings = np.stack([basis.row(c.spec) for c in rated]), np.array([c.rating for c in rated])
    scale, intercept = _line(rows @ prior, ratings)
    noise, width = max(1e-12, 0.1 * float(ratings.std())), max(1e-12, scale * float(prior.mean()))
    left = np.vstack([rows / noise, np.eye(len(prior)) / width])
    right = np.concatenate([(ratings - intercept) / noise, scale * prior / width])
    return basis.additive(intercept, np.asarray(lsq_linear(left, right, bounds=(0, np.inf)).x))


def _line(values: np.ndarray, ratings: np.ndarray) -> tuple[float, float]:
    """The slope, at least a little above zero, and the intercept of the least-squares line."""
    spread = float(values.std())
    slope = float(((values - values.mean()) * (ratings - ratings.mean())).mean()) / spread**2 if spread else 0.0
    slope = max(slope, 0.1 * float(ratings.std()) / max(spread, 1e-12), 1e-12)
    return slope, float(ratings.mean() - slope * values.mean())
