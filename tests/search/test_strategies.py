"""Strategies: limits hold, nothing over a limit is rated, and the result is at least the best uniform sub-network's."""

from __future__ import annotations

import pytest
import torch

from slimformer import Axis, Space
from slimformer.axes import DEPTH_POLICIES
from slimformer.search import STRATEGIES, Cheapest, Choices, Limit, Problem, search

NAMES = ("random", "evolution", "milp", "auto")


def price(spec):
    """A sum, and a maximum over blocks, which is not additive."""
    units = sum(spec.units.values())
    return {"size": 100.0 + units + 5 * len(spec.blocks["encoder"]), "peak": float(max(spec.units.values()))}


def rating(spec):
    """Later blocks and first units matter more, and heads count where there are neurons to use them."""
    total = 0.0
    for block in spec.blocks["encoder"]:
        heads, neurons = (spec.units[f"encoder.{block}.{kind}"] for kind in ("heads", "ffn"))
        total += (1 + block) * (heads**0.5 + 0.2 * (heads * neurons) ** 0.5)
    return total


@pytest.fixture
def choices(space):
    return Choices(space, {"width.ffn": 8})


@pytest.fixture
def run(choices):
    """Search with a strategy; what was rated, in order, and what was found."""

    def run(name, *limits, goal=None, max_ratings=30, seed=0):
        problem = Problem(choices, price, limits, max_ratings=max_ratings, **({"goal": goal} if goal else {}))
        rated = []

        def rate(spec):
            rated.append(spec)
            return rating(spec)

        return rated, search(problem, STRATEGIES.build(name), rate, torch.Generator().manual_seed(seed))

    return run


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "limits", [(Limit("size", 220.0),), (Limit("peak", 40.0),), (Limit("size", 260.0), Limit("peak", 33.0))]
)
def test_nothing_over_a_limit_is_rated_and_the_best_is_no_worse_than_a_uniform_one(choices, run, name, limits):
    rated, found = run(name, *limits)
    assert all(price(spec)[limit.cost] <= limit.most for spec in rated for limit in limits)
    assert len(rated) == len(set(rated)) <= 30
    uniform = [spec for spec in choices.grid if all(price(spec)[limit.cost] <= limit.most for limit in limits)]
    assert set(uniform) <= set(rated)
    assert found[0].rating == max(map(rating, rated)) > max(map(rating, uniform)), "nothing better than uniform was found"
    assert all(choices.holds(spec) for spec in rated)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_finds_the_same(run, name):
    one, other = (run(name, Limit("size", 220.0))[0] for _ in range(2))
    assert one == other


@pytest.mark.parametrize("name", ["auto", "milp"])
@pytest.mark.parametrize("most", [200.0, 240.0, 280.0])
def test_the_winner_uses_the_budget(run, name, most):
    assert run(name, Limit("size", most))[1][0].costs["size"] > 0.97 * most


@pytest.mark.parametrize("name", NAMES)
def test_the_cheapest_with_a_rating_is_cheaper_than_each_uniform_one_that_has_it(choices, run, name):
    least = 40.0
    rated, found = run(name, goal=Cheapest("size", least), max_ratings=60)
    enough = [spec for spec in rated if rating(spec) >= least]
    assert found[0].costs["size"] == min(price(spec)["size"] for spec in enough)
    assert found[0].costs["size"] < min(price(spec)["size"] for spec in choices.grid if rating(spec) >= least)


def test_a_small_space_is_enumerated(supernet):
    space = Space(
        supernet.topology, (Axis("width.heads", (1.0, 0.5)), Axis("depth", (1.0,))), DEPTH_POLICIES.build("keep_last")
    )
    choices = Choices(space, {"width.heads": 2})
    problem = Problem(choices, price, (Limit("size", 400.0),), max_ratings=20)
    rated = []
    search(problem, STRATEGIES.build("auto"), lambda spec: rated.append(spec) or rating(spec), torch.Generator())
    assert set(rated) == {spec for spec in choices.every() if price(spec)["size"] <= 400} != set()
    assert choices.count() == 16
