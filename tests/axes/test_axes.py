"""The registry of axes: what it covers, how it rounds, and that a topology need not ask it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given, strategies as st

from slimformer.axes import AXES, DEPTH_POLICIES, Axis, Part, Space, Width, axis_of, size_at
from slimformer.errors import SpaceError
from slimformer.recipe import parse_recipe, to_table
from slimformer.search import Choices
from slimformer.supernet import SuperNet


@pytest.mark.parametrize("name", AXES.names())
@given(total=st.integers(1, 64), one=st.floats(0.01, 1), other=st.floats(0.01, 1))
def test_an_axis_keeps_between_one_and_all_and_never_fewer_at_a_larger_ratio(name, total, one, other) -> None:
    axis = AXES.build(name)
    low, high = sorted((one, other))
    assert 1 <= axis.size(total, low) <= axis.size(total, high) <= total
    assert axis.size(total, 1.0) == total


@pytest.mark.parametrize("name", AXES.names())
def test_the_default_ratios_of_an_axis_begin_with_the_whole_and_fall(name) -> None:
    ratios = AXES.build(name).ratios
    assert ratios[0] == 1.0
    assert list(ratios) == sorted(set(ratios), reverse=True)


@pytest.mark.parametrize(
    ("name", "registered"),
    [
        ("width.heads", "width.heads"),
        ("width.text.heads", "width.heads"),
        ("width.decoder.cross", "width.cross"),
        ("width.gate", "width"),
        ("depth.encoder", "depth"),
        ("hidden", "hidden"),
    ],
)
def test_an_axis_of_a_topology_belongs_to_the_registered_axis_nearest_to_it(name, registered) -> None:
    axis = axis_of(name)
    assert axis is not None
    assert AXES.name_of(axis) == registered


def test_a_topology_may_offer_an_axis_that_is_not_registered(supernet: SuperNet) -> None:
    topology = replace(supernet.topology, groups=tuple(replace(group, axis="girth") for group in supernet.topology.groups))
    assert axis_of("girth") is None
    space = Space(topology, (Axis("girth", (1.0, 0.5)),), DEPTH_POLICIES.build("keep_last"))
    assert set(space.spec({"girth": 0.5}).units.values()) == {2, 32}


@pytest.fixture
def even_neurons():
    """Neurons in multiples of 24, as a plugin may register them."""
    heads = AXES.get("width.ffn")
    AXES.forget("width.ffn")

    @AXES.register("width.ffn")
    @dataclass(frozen=True)
    class Even(Width):
        """Neurons in multiples of 24."""

        part: ClassVar[Part] = "units"

        def size(self, total: int, ratio: float) -> int:
            return total if ratio == 1 else max(24, round(total * ratio / 24) * 24)

    yield
    AXES.forget("width.ffn")
    AXES.register("width.ffn")(heads)


@pytest.mark.usefixtures("even_neurons")
def test_an_axis_rounds_the_sizes_of_the_grid_and_of_a_search(space: Space) -> None:
    neurons = {n for name, n in space.spec({"width": 0.5}).units.items() if name.endswith("ffn")}
    assert neurons == {24}
    assert 24 in Choices(space, {"width.ffn": 24}).sizes["encoder.0.ffn"]
    assert all(point.spec in Choices(space).grid for point in space.points())


def test_a_group_keeps_its_least_whatever_its_axis_says(supernet: SuperNet) -> None:
    group = replace(supernet.topology.groups[0], least=3)
    assert size_at(group, 0.25) == 3


def test_an_axis_that_the_backbone_does_not_offer_is_refused_with_how_to_get_it(supernet: SuperNet) -> None:
    with pytest.raises(SpaceError, match=r"offers only: width.heads, width.ffn, depth. For 'hidden' ask the backbone for it"):
        Space(supernet.topology, (Axis("hidden", (1.0, 0.5)),), DEPTH_POLICIES.build("keep_last"))


def test_default_in_a_recipe_stands_for_the_ratios_of_the_registered_axis() -> None:
    recipe = parse_recipe(
        {
            "name": "r",
            "model": {"checkpoint": "bert"},
            "task": "docstrings",
            "space": {"width": "default", "depth": [1.0, 0.5]},
            "schedule": "one_stage",
        }
    )
    assert to_table(recipe)["space"]["width"] == [1.0, 0.75, 0.5, 0.25]
