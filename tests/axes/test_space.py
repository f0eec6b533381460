"""Spaces: what ratios mean in exact integers, which blocks remain, and how points are found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from slimformer import Axis, Space
from slimformer.axes import DEPTH_POLICIES, count
from slimformer.axes.space import check_divisible
from slimformer.backbones import Slice, Topology, UnitGroup
from slimformer.errors import SpaceError

PAPER = "keep_last"


@pytest.mark.parametrize(
    ("policy", "num_blocks", "ratio", "kept"),
    [
        ("keep_last", 12, 0.75, (0, 1, 3, 4, 5, 7, 8, 9, 11)),
        ("keep_last", 12, 0.5, (1, 3, 5, 7, 9, 11)),
        ("keep_last", 6, 0.5, (1, 3, 5)),
        ("keep_last", 6, 0.75, (0, 2, 3, 5)),
        ("keep_last", 6, 0.01, (5,)),
        ("reference", 12, 0.75, (0, 1, 2, 4, 5, 6, 8, 9, 10)),
        ("reference", 12, 0.5, (0, 2, 4, 6, 8, 10)),
        ("reference", 6, 0.5, (0, 2, 4)),
        ("reference", 6, 0.01, (0,)),
    ],
)
def test_depth_policies_keep_these_blocks(policy, num_blocks, ratio, kept) -> None:
    assert DEPTH_POLICIES.build(policy)(num_blocks, ratio) == kept


@given(num_blocks=st.integers(1, 48), ratio=st.floats(0.01, 1))
@pytest.mark.parametrize("policy", ["keep_last", "reference"])
def test_depth_policies_keep_ascending_blocks_of_the_right_number(policy, num_blocks, ratio) -> None:
    kept = DEPTH_POLICIES.build(policy)(num_blocks, ratio)
    assert list(kept) == sorted(set(kept))
    assert set(kept) <= set(range(num_blocks))
    assert len(kept) == count(num_blocks, ratio)
    assert (num_blocks - 1 if policy == "keep_last" else 0) in kept


@pytest.mark.parametrize(("total", "ratio", "kept"), [(12, 0.25, 3), (3, 0.5, 2), (5, 0.5, 2), (4, 0.01, 1), (7, 1.0, 7)])
def test_count_rounds_halves_to_even_and_keeps_at_least_one(total, ratio, kept) -> None:
    assert count(total, ratio) == kept


def test_a_ratio_of_one_axis_covers_heads_and_neurons(space) -> None:
    spec = space.spec({"width": 0.5, "depth": 0.75})
    assert set(spec.blocks["encoder"]) == {0, 1, 3}
    assert {name.rpartition(".")[2]: size for name, size in spec.units.items()} == {"heads": 2, "ffn": 32}


def test_axes_may_be_separate(supernet) -> None:
    axes = (Axis("width.heads", (1.0, 0.5)), Axis("width.ffn", (1.0, 0.25)))
    spec = Space(supernet.topology, axes, DEPTH_POLICIES.build(PAPER)).spec({"width.ffn": 0.25})
    assert (spec.units["encoder.0.heads"], spec.units["encoder.0.ffn"], len(spec.blocks["encoder"])) == (4, 16, 4)


def test_points_are_every_combination_largest_first_the_first_axis_fastest(space) -> None:
    points = space.points()
    assert len(points) == 12
    assert [p.name for p in points[:5]] == [
        "width1-depth1", "width0.75-depth1", "width0.5-depth1", "width0.25-depth1", "width1-depth0.75",
    ]  # fmt: skip
    assert points[0].spec == space.topology.full
    assert points[-1].name == "width0.25-depth0.5"


def test_ratios_are_sorted_and_doubles_removed(supernet) -> None:
    space = Space(supernet.topology, (Axis("depth", (0.5, 1.0, 0.5)),), DEPTH_POLICIES.build(PAPER))
    assert space.axes[0].ratios == (1.0, 0.5)


def test_points_that_round_to_one_spec_appear_once_under_the_larger_name(supernet) -> None:
    space = Space(supernet.topology, (Axis("depth", (1.0, 0.95, 0.5)),), DEPTH_POLICIES.build(PAPER))
    assert [point.name for point in space.points()] == ["depth1", "depth0.5"]


def test_largest_and_smallest_are_the_ends_of_the_grid(space) -> None:
    assert space.largest() == space.points()[0]
    assert space.smallest() == space.points()[-1]


@pytest.mark.parametrize("name", ["width0.5-depth0.75", "w0.5-d0.75", "d0.75-w0.5", "w.5-d.75", "width0.50-depth0.75"])
def test_find_accepts_full_and_short_names(space, name) -> None:
    assert space.find(name) == space.point({"width": 0.5, "depth": 0.75})


def test_find_reads_a_missing_axis_as_whole(space) -> None:
    assert space.find("w0.5") == space.point({"width": 0.5, "depth": 1.0})


@pytest.mark.parametrize("name", ["", "w0.6", "x0.5", "width", "0.5", "w0.5_d1", "w0.5.5", "w."])
def test_find_names_the_points_there_are_for_anything_else(space, name) -> None:
    with pytest.raises(SpaceError, match=r"is not a sub-network of this run; there are: width1-depth1, "):
        space.find(name)


def test_find_refuses_a_short_name_of_two_axes(supernet) -> None:
    axes = (Axis("width.heads", (1.0, 0.5)), Axis("width.ffn", (1.0, 0.5)))
    space = Space(supernet.topology, axes, DEPTH_POLICIES.build(PAPER))
    assert space.find("width.heads0.5") == space.point({"width.heads": 0.5})
    with pytest.raises(SpaceError):
        space.find("width0.5")


def test_find_knows_every_name_that_a_point_prints(supernet) -> None:
    space = Space(supernet.topology, (Axis("width", (1.0, 2 / 3, 1 / 3)),), DEPTH_POLICIES.build(PAPER))
    assert [space.find(point.name) for point in space.points()] == list(space.points())


def test_a_space_without_axes_has_one_point_called_full(supernet) -> None:
    space = Space(supernet.topology, (), DEPTH_POLICIES.build(PAPER))
    assert [point.name for point in space.points()] == ["full"]
    assert space.find("full").spec == supernet.topology.full


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((Axis("hidden", (1.0,)),), "'hidden' elastic, but this backbone offers only: width.heads, width.ffn, depth"),
        ((Axis("wid", (1.0,)),), "'wid' elastic"),
        ((Axis("width", (1.0,)), Axis("width.ffn", (1.0,))), "two axes of the recipe cover 'width.ffn'"),
        ((Axis("width", (1.0, 0.0)),), "write numbers above 0, up to 1"),
        ((Axis("width", (1.5,)),), "write numbers above 0, up to 1"),
        ((Axis("width", ()),), "write numbers above 0, up to 1"),
        ((Axis("width", (float("nan"),)),), "write numbers above 0, up to 1"),
    ],
)
def test_a_wrong_axis_is_refused(supernet, axes, message) -> None:
    with pytest.raises(SpaceError, match=message):
        Space(supernet.topology, axes, DEPTH_POLICIES.build(PAPER))


def test_a_choice_on_an_unknown_axis_is_refused(space) -> None:
    with pytest.raises(SpaceError, match="'hidden' is not an axis of this space, which has: width, depth"):
        space.spec({"hidden": 0.5})


def test_a_restricted_space_keeps_the_other_axes_whole(space) -> None:
    narrow = space.restrict(("width",))
    assert [point.name for point in narrow.points()] == ["width1", "width0.75", "width0.5", "width0.25"]
    assert all(len(point.spec.blocks["encoder"]) == 4 for point in narrow.points())


def test_restricting_to_an_unknown_axis_is_refused(space) -> None:
    with pytest.raises(SpaceError, match=r"'hidden' elastic, but \[space\] has only: width, depth"):
        space.restrict(("hidden",))


def test_random_specs_lie_between_the_smallest_and_the_largest_and_reach_both(space, generator) -> None:
    specs = [space.random_spec(generator) for _ in range(200)]
    heads = {spec.units[name] for spec in specs for name in spec.units if name.endswith("heads")}
    neurons = {spec.units[name] for spec in specs for name in spec.units if name.endswith("ffn")}
    assert heads == {1, 2, 3, 4}
    assert min(neurons) == 16
    assert max(neurons) == 64
    assert {len(spec.blocks["encoder"]) for spec in specs} == {2, 3, 4}
    assert len({spec.blocks["encoder"] for spec in specs}) == 6 + 4 + 1


def test_random_points_follow_the_generator_and_reach_the_whole_grid(space) -> None:
    def draw() -> list[str]:
        generator = torch.Generator().manual_seed(5)
        return [space.random_point(generator).name for _ in range(200)]

    assert draw() == draw()
    assert set(draw()) == {point.name for point in space.points()}


def test_an_axis_along_which_nothing_can_be_left_out_is_refused_before_a_run() -> None:
    single = UnitGroup("a", "width.heads", 1, (Slice("a.bias", 0),))
    many = UnitGroup("b", "width.ffn", 4, (Slice("b.bias", 0),))
    topology = Topology((single, many), ())
    policy = DEPTH_POLICIES.build("keep_last")
    with pytest.raises(SpaceError, match=r"'width.heads' cannot be below 1 .* one unit in each group .* Leave the axis out"):
        check_divisible(Space(topology, (Axis("width.heads", (1.0, 0.5)),), policy))
    check_divisible(Space(topology, (Axis("width", (1.0, 0.5)),), policy))
    check_divisible(Space(topology, (Axis("width.heads", (1.0,)),), policy))
