"""Topologies and specs: what is accepted, what is refused, and what shapes follow."""

from __future__ import annotations

import json

import pytest

from slimformer import SubnetSpec, Topology
from slimformer.errors import TopologyError
from slimformer.supernet import BlockStack, Slice, UnitGroup, renumber
from slimformer.supernet.topology import indivisible_axes


@pytest.fixture
def topology() -> Topology:
    """Two blocks of two heads of size 3, and a group outside the blocks."""
    groups = [
        UnitGroup(
            f"heads.{b}", "width.heads", 2, (Slice(f"blocks.{b}.up.weight", 0, 3), Slice(f"blocks.{b}.down.weight", 1, 3))
        )
        for b in range(2)
    ]
    outside = UnitGroup("outside", "width.other", 5, (Slice("head.weight", 0),))
    return Topology((*groups, outside), (BlockStack("stack", "depth", "blocks", 2),))


SHAPES = {f"blocks.{b}.{name}.weight": shape for b in range(2) for name, shape in (("up", (6, 4)), ("down", (4, 6)))}


def test_axes_come_once_and_in_order(topology) -> None:
    assert topology.axes == ("width.heads", "width.other", "depth")


def test_the_full_spec_names_every_group_and_block(topology) -> None:
    assert topology.full == SubnetSpec({"heads.0": 2, "heads.1": 2, "outside": 5}, {"stack": (0, 1)})


def test_a_spec_leaves_out_groups_of_dropped_blocks(topology) -> None:
    spec = topology.spec({"heads.0": 1, "heads.1": 1}, {"stack": [1]})
    assert dict(spec.units) == {"heads.1": 1, "outside": 5}


def test_a_spec_sorts_its_blocks(topology) -> None:
    assert topology.spec({}, {"stack": [1, 0, 1]}).blocks["stack"] == (0, 1)


@pytest.mark.parametrize(
    ("units", "blocks", "message"),
    [
        ({"wings": 1}, {}, "no group or stack called 'wings'"),
        ({}, {"tower": [0]}, "no group or stack called 'tower'"),
        ({"heads.0": 0}, {}, r"'heads.0' keeps 0 units: write 1\.\.2"),
        ({"heads.0": 3}, {}, r"'heads.0' keeps 3 units: write 1\.\.2"),
        ({}, {"stack": []}, r"keeps blocks \[\]: write at least one of 0\.\.1"),
        ({}, {"stack": [2]}, r"keeps blocks \[2\]"),
        ({}, {"stack": [-1]}, r"keeps blocks \[-1\]"),
    ],
)
def test_a_wrong_spec_is_refused_by_name(topology, units, blocks, message) -> None:
    with pytest.raises(TopologyError, match=message):
        topology.spec(units, blocks)


def test_specs_are_equal_and_hash_alike_whatever_the_order_of_names() -> None:
    one, other = SubnetSpec({"a": 1, "b": 2}, {"s": (0,)}), SubnetSpec({"b": 2, "a": 1}, {"s": (0,)})
    assert one == other
    assert hash(one) == hash(other)
    assert one != SubnetSpec({"a": 1, "b": 1}, {"s": (0,)})
    assert one != SubnetSpec({"a": 1, "b": 2}, {"s": (1,)})
    assert one != "a spec"


def test_a_spec_survives_json(topology) -> None:
    spec = topology.spec({"heads.0": 1}, {"stack": [0]})
    assert SubnetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "spec",
    [
        SubnetSpec({"heads.0": 1, "heads.1": 1, "outside": 5}, {"stack": (0,)}),
        SubnetSpec({"heads.0": 1}, {"stack": (0,)}),
        SubnetSpec({"heads.0": 1, "outside": 5}, {}),
    ],
)
def test_a_spec_with_too_many_or_too_few_sizes_is_not_valid(topology, spec) -> None:
    with pytest.raises(TopologyError, match="does not give a size for each group"):
        topology.validate(spec)


def test_a_spec_made_by_the_topology_is_valid(topology) -> None:
    topology.validate(topology.spec({"heads.1": 1}, {"stack": [1]}))


def test_the_shape_of_a_sliced_parameter_counts_whole_units(topology) -> None:
    spec = topology.spec({"heads.0": 1}, {})
    assert topology.shape("blocks.0.up.weight", (6, 4), spec) == (3, 4)
    assert topology.shape("blocks.0.down.weight", (4, 6), spec) == (4, 3)
    assert topology.shape("norm.weight", (4,), spec) == (4,)


def test_owner_gives_the_block_of_each_group_inside_one(topology) -> None:
    assert topology.owner == {"heads.0": ("stack", 0), "heads.1": ("stack", 1)}


def test_block_1_does_not_own_the_groups_of_block_10() -> None:
    group = UnitGroup("heads.10", "width", 1, (Slice("blocks.10.up.weight", 0),))
    topology = Topology((group,), (BlockStack("stack", "depth", "blocks", 11),))
    assert topology.owner["heads.10"] == ("stack", 10)


def test_a_group_whose_slices_lie_in_several_blocks_belongs_to_none(topology) -> None:
    shared = UnitGroup("shared", "width", 3, tuple(Slice(f"blocks.{block}.up.weight", 0, 2) for block in (0, 1)))
    topology = Topology((shared,), topology.stacks)
    assert topology.owner == {}
    assert topology.spec({"shared": 2}, {"stack": [1]}).units == {"shared": 2}


def test_what_whichever_block_comes_first_inherits_is_never_dropped_and_moves_to_it() -> None:
    stack = BlockStack("stack", "depth", "blocks", 3, inherited=("attention.table",))
    topology = Topology((), (stack,))
    spec = topology.spec({}, {"stack": [1, 2]})
    assert not topology.is_dropped("blocks.0.attention.table.weight", spec)
    assert topology.is_dropped("blocks.0.attention.tables", spec)
    assert renumber("blocks.0.attention.table.weight", topology, spec) == "blocks.0.attention.table.weight"
    assert renumber("blocks.2.attention", topology, spec) == "blocks.1.attention"


def test_a_group_keeps_its_least_units_whatever_the_ratio() -> None:
    experts = UnitGroup("experts", "experts", 8, (Slice("router.weight", 0, role="choose"),), least=2)
    topology = Topology((experts,), ())
    assert [experts.at(ratio) for ratio in (1.0, 0.5, 0.1)] == [8, 4, 2]
    with pytest.raises(TopologyError, match=r"'experts' keeps 1 units: write 2\.\.8"):
        topology.spec({"experts": 1}, {})


def test_names_in_dropped_blocks_are_dropped_and_others_are_not(topology) -> None:
    spec = topology.spec({}, {"stack": [1]})
    assert topology.is_dropped("blocks.0", spec)
    assert topology.is_dropped("blocks.0.up.weight", spec)
    assert not topology.is_dropped("blocks.1.up.weight", spec)
    assert not topology.is_dropped("head.weight", spec)


def test_check_accepts_the_model_that_it_describes(topology) -> None:
    topology.check(SHAPES | {"head.weight": (5, 4)})


def test_check_names_a_parameter_that_the_model_lacks(topology) -> None:
    with pytest.raises(TopologyError, match=r"'outside' names parameter 'head.weight'"):
        topology.check(SHAPES)


def test_check_names_a_slice_that_does_not_cover_its_dimension(topology) -> None:
    with pytest.raises(TopologyError, match=r"'head.weight' has 7 entries in dimension 0, not 5 units of 1"):
        topology.check(SHAPES | {"head.weight": (7, 4)})


def test_two_groups_of_one_name_are_refused() -> None:
    group = UnitGroup("same", "width", 1, (Slice("w", 0),))
    with pytest.raises(TopologyError, match="same name"):
        Topology((group, group), ())


def fused(*starts: int) -> Topology:
    slices = (*(Slice("qkv", 0, 2, start) for start in starts), Slice("out.weight", 1, 2))
    return Topology((UnitGroup("heads", "width", 3, slices),), ())


def test_a_fused_parameter_keeps_the_first_units_of_each_part() -> None:
    topology = fused(6, 0, 12)
    topology.check({"qkv": (18, 4), "out.weight": (4, 6)})
    spec = topology.spec({"heads": 2}, {})
    assert topology.kept_ranges("qkv", spec) == {0: ((0, 4), (6, 4), (12, 4))}
    assert topology.kept_ranges("qkv", topology.full) == {0: ((0, 18),)}
    assert topology.shape("qkv", (18, 4), spec) == (12, 4)


@pytest.mark.parametrize("starts", [(0, 6), (0, 6, 13), (0, 0, 6), (1, 7, 13)])
def test_parts_that_overlap_or_leave_a_gap_are_refused(starts: tuple[int, ...]) -> None:
    with pytest.raises(TopologyError, match=r"'qkv' has 18 entries in dimension 0, not 3 units of 2"):
        fused(*starts).check({"qkv": (18, 4), "out.weight": (4, 6)})


def test_parts_of_one_dimension_in_two_groups_are_refused() -> None:
    groups = tuple(UnitGroup(name, "width", 3, (Slice("w", 0, 1, start),)) for name, start in (("a", 0), ("b", 3)))
    with pytest.raises(TopologyError, match="group 'a': 'w' has 6 entries"):
        Topology(groups, ()).check({"w": (6,)})


def test_the_block_of_a_group_is_its_index_in_the_stack(supernet):
    topology = supernet.topology
    assert topology.block_of("encoder.2.heads") == 2
    assert topology.block_of(topology.by_name["encoder.3.ffn"]) == 3
    with pytest.raises(TopologyError, match=r"no group called 'encoder\.9\.heads'"):
        topology.block_of("encoder.9.heads")


def test_a_group_that_lies_in_several_blocks_or_none_has_no_block():
    slices = (Slice("blocks.0.bias", 0), Slice("blocks.1.bias", 0))
    outside = UnitGroup("outside", "width", 4, (Slice("head.bias", 0),))
    topology = Topology((UnitGroup("both", "width", 4, slices), outside), (BlockStack("s", "depth", "blocks", 2),))
    assert (topology.block_of("both"), topology.block_of("outside")) == (None, None)


def test_axes_along_which_nothing_can_be_left_out_are_named_with_the_reason():
    single = UnitGroup("a", "width.heads", 1, (Slice("a.bias", 0),))
    pair = UnitGroup("b", "width.experts", 2, (Slice("b.bias", 0),), least=2)
    many = UnitGroup("c", "width.ffn", 4, (Slice("c.bias", 0),))
    topology = Topology((single, pair, many), (BlockStack("s", "depth", "blocks", 1),))
    reasons = indivisible_axes(topology)
    assert set(reasons) == {"width.heads", "width.experts", "depth"}
    assert "one unit in each group" in reasons["width.heads"]
    assert "2 units in each group, and none can do with fewer" in reasons["width.experts"]
