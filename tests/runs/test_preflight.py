"""Checks before training: the laws on the task's own examples, examples to score on, and points that coincide."""

from dataclasses import replace

import pytest
import torch

from slimformer.axes import DEPTH_POLICIES, Axis, Space
from slimformer.errors import DataError, TopologyError
from slimformer.recipe import parse_recipe
from slimformer.rewiring import Shuffle
from slimformer.runs.preflight import check_laws, check_scoring_examples, coinciding
from slimformer.supernet import SuperNet
from tests.tiny import tiny_data


def recipe_of(**more):
    table = {"name": "x", "model": {"checkpoint": "x"}, "task": "docstrings", "space": {"width": [1.0, 0.5]}}
    return parse_recipe(table | more)


def small(supernet):
    return Space(supernet.topology, (Axis("width", (1.0, 0.5)),), DEPTH_POLICIES.build("keep_last")).smallest().spec


def test_a_right_description_passes_and_leaves_weights_and_random_numbers_as_they_were(supernet):
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    check_laws(supernet, tiny_data())
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_a_slice_that_is_missing_breaks_a_law_which_is_named(supernet):
    """Without the slice of what reads the units, the units are moved on one side only."""
    topology = supernet.topology
    first = topology.groups[0]
    torn = replace(first, slices=tuple(part for part in first.slices if not part.reads))
    wrong = SuperNet(supernet.model, replace(topology, groups=(torn, *topology.groups[1:])))
    assert not Shuffle(0)(wrong.topology, {}).is_identity
    with pytest.raises(
        TopologyError, match=r"the topology does not fit this model: law 2 \(rewiring changes nothing\)"
    ) as caught:
        check_laws(wrong, tiny_data())
    assert "\n" not in str(caught.value)


def test_a_scorer_that_reads_data_needs_examples():
    empty = replace(tiny_data(), calibration=[])
    with pytest.raises(DataError, match="importance is scored on calibration, which has no examples"):
        check_scoring_examples(recipe_of(), empty)
    check_scoring_examples(recipe_of(importance={"scorer": "random"}), empty)


def test_points_of_a_grid_that_are_the_same_sub_network_are_named(supernet):
    space = Space(supernet.topology, (Axis("depth", (1.0, 0.5, 0.45)),), DEPTH_POLICIES.build("keep_last"))
    assert coinciding(space) == ["depth0.5 and depth0.45 are the same sub-network"]
