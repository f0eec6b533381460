"""The search: limits hold, what is over a limit costs nothing, and the answer names what is nearest."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings, strategies as st

from slimformer.errors import InfeasibleError
from slimformer.search import STRATEGIES, Choices, Grid, Limit, Problem, search


def price(spec):
    """Two costs that order the sub-networks differently."""
    units = sum(spec.units.values())
    return {"params": 1000.0 + 10 * units, "blocks": float(len(spec.blocks["encoder"]))}


def size(spec):
    return float(sum(spec.units.values()))


@pytest.fixture
def find(space, generator):
    """Searches the space with a strategy, a rate function and limits."""

    def run(strategy, rate, limits=()):
        return search(Problem(Choices(space), price, tuple(limits)), strategy, rate, generator)

    return run


@pytest.fixture
def stack(space):
    assert list(space.largest().spec.blocks) == ["encoder"]
    return "encoder"


def test_everything_returned_meets_every_limit_and_nothing_that_meets_them_is_left_out(space, stack, find):
    specs = [point.spec for point in space.points()]
    params = sorted({price(spec)["params"] for spec in specs})
    amounts = st.one_of(st.sampled_from(params), st.floats(1.0, 5000.0))
    blocks = st.integers(1, 5).map(float)

    @settings(max_examples=60, deadline=None)
    @given(amounts, blocks)
    def holds(most_params, most_blocks):
        limits = [Limit("params", most_params), Limit("blocks", most_blocks)]
        meeting = {s for s in specs if price(s)["params"] <= most_params and price(s)["blocks"] <= most_blocks}
        rated = []

        def rate(spec):
            rated.append(spec)
            return size(spec)

        try:
            found = find(Grid(), rate, limits)
        except InfeasibleError:
            found = []
        assert {candidate.spec for candidate in found} == meeting
        assert sorted(map(size, rated)) == sorted(map(size, meeting)), "a candidate over a limit was rated"
        assert all(dict(candidate.costs) == price(candidate.spec) for candidate in found)
        ratings = [candidate.rating for candidate in found]
        assert ratings == sorted(ratings, reverse=True)

    holds()


def test_without_limits_every_sub_network_is_rated_once(space, find):
    rated = []
    find(Grid(), lambda spec: rated.append(spec) or 0.0)
    assert len(rated) == len(set(rated)) == 12


def test_the_cheaper_one_comes_first_among_equals(space, find):
    found = find(Grid(), lambda spec: 50.0)
    costs = [tuple(candidate.costs.values()) for candidate in found]
    assert costs == sorted(costs)
    assert len(set(costs)) > 1


def test_a_rating_of_zero_is_a_rating(space, find):
    assert len(find(Grid(), lambda spec: 0.0)) == 12


def test_limits_that_nothing_meets_name_the_nearest_and_what_to_change(space, find):
    with pytest.raises(InfeasibleError) as caught:
        find(Grid(), size, [Limit("params", 1100.0), Limit("blocks", 4.0)])
    least = min(price(point.spec)["params"] for point in space.points())
    assert str(caught.value) == (
        "no sub-network has params <= 1.1k and blocks <= 4; the nearest, width0.25-depth0.5, has "
        f"params {least / 1000:.4g}k, blocks 2. Raise the limit or add smaller ratios to [space]"
    )


def test_the_nearest_exceeds_its_worst_limit_by_the_smallest_factor_and_is_the_cheapest_such(space, find):
    """Every sub-network of two blocks exceeds the limit on blocks by the same factor: the cheapest of them is named."""
    with pytest.raises(InfeasibleError, match=r"the nearest, width0\.25-depth0.5, has blocks 2"):
        find(Grid(), size, [Limit("blocks", 1.0), Limit("params", 1400.0)])


@dataclass(frozen=True)
class Halving:
    """Asks for the first half of the units of every group, after the uniform sub-networks."""

    def ask(self, problem, seen, generator):
        return [problem.topology.spec({name: sizes[1] for name, sizes in problem.choices.sizes.items()}, {})]


@pytest.fixture
def halving():
    STRATEGIES.register("halving")(Halving)
    yield STRATEGIES.build("halving")
    del STRATEGIES._classes["halving"]


def test_a_strategy_of_five_lines_is_registered_and_used_after_the_uniform_sub_networks(space, halving, find):
    rated = []
    found = find(halving, lambda spec: rated.append(spec) or size(spec))
    assert rated[:-1] == [point.spec for point in space.points()]
    assert rated[-1].units["encoder.0.ffn"] == 20
    assert len(found) == 13


def test_a_strategy_that_repeats_itself_comes_to_an_end(space, find):
    class Stubborn:
        def ask(self, problem, seen, generator):
            return [problem.choices.largest()] * 2

    assert len(find(Stubborn(), size)) == 12
