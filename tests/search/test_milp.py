"""The exact solver against enumeration, for additive prices and for maxima."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from slimformer import Axis, Space
from slimformer.axes import DEPTH_POLICIES
from slimformer.search import Choices, Limit, Problem
from slimformer.search.additive import Additive, lower_bounds
from slimformer.search.milp import solutions


@pytest.fixture(params=["any", "spread", "prefix"])
def choices(request, supernet):
    """Heads and blocks: a few hundred sub-networks at most."""
    axes = (Axis("width.heads", (1.0, 0.25)), Axis("depth", (1.0, 0.5)))
    return Choices(Space(supernet.topology, axes, DEPTH_POLICIES.build("keep_last")), {}, request.param)


def additive(choices, seed):
    random = Random(seed)
    units, total = {}, 0.0
    for name, sizes in choices.sizes.items():
        units[name] = {}
        for size in sizes:
            total += random.random()
            units[name][size] = total
        total = 0.0
    return Additive(1.0, units, {("encoder", block): random.random() for block in range(4)})


def total(spec):
    return 10.0 + 3 * sum(spec.units.values()) + 7 * len(spec.blocks["encoder"])


def peak(spec):
    """A maximum over blocks on top of a sum, as memory is."""
    return 0.1 * total(spec) + 8.0 * max(units for name, units in spec.units.items() if name.endswith("heads"))


def uneven(spec):
    """A maximum over blocks that differ, and a product: no maximum of additive functions."""
    heads = {block: spec.units[f"encoder.{block}.heads"] for block in spec.blocks["encoder"]}
    return 0.1 * total(spec) + max((8 + block) * units for block, units in heads.items()) * len(heads) ** 0.5


PRICES = {"total": total, "peak": peak}


@pytest.mark.parametrize("cost", PRICES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_the_solutions_are_the_best_specs_under_the_limit_in_order(choices, cost, share):
    values, price = additive(choices, 1), PRICES[cost]
    specs = list(choices.every())
    low, high = min(map(price, specs)), max(map(price, specs))
    limit = Limit(cost, low + share * (high - low))
    expected = sorted((values(spec) for spec in specs if price(spec) <= limit.most), reverse=True)[:5]
    found = list(islice(solutions(Problem(choices, lambda spec: {cost: price(spec)}, (limit,)), values), 5))
    assert [solution.value for solution in found] == pytest.approx(expected)
    assert all(solution.gap <= 1e-6 for solution in found)
    assert all(price(solution.spec) <= limit.most for solution in found)


def test_an_additive_price_is_one_row_and_a_maximum_one_for_each_group(choices):
    assert len(lower_bounds(choices, total)) == 1
    bounds = lower_bounds(choices, peak)
    assert len(bounds) == len(choices.sizes)
    for spec in choices.every():
        assert max(bound(spec) for bound in bounds) == pytest.approx(peak(spec))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_limit_on_any_other_cost_is_met_by_a_solution_that_is_nearly_the_best(choices, share):
    values, specs = additive(choices, 1), list(choices.every())
    low, high = min(map(uneven, specs)), max(map(uneven, specs))
    limit = Limit("uneven", low + share * (high - low))
    best = max(values(spec) for spec in specs if uneven(spec) <= limit.most)
    found = next(solutions(Problem(choices, lambda spec: {"uneven": uneven(spec)}, (limit,)), values))
    assert uneven(found.spec) <= limit.most
    assert 0.9 * best <= found.value <= best + 1e-9


def test_limits_that_nothing_meets_have_no_solution(choices):
    problem = Problem(choices, lambda spec: {"total": total(spec)}, (Limit("total", 20.0),))
    assert list(solutions(problem, additive(choices, 1))) == []
