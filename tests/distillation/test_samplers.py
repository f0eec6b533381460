"""Samplers: the laws for all of them, and what is particular to each."""

from __future__ import annotations

import pytest
import torch

from slimformer import Axis, Space
from slimformer.distillation import SAMPLERS, Every, Largest, One, Sandwich, Uniform
from slimformer.testing import is_part_of

ALL = [Every(), Largest(), Sandwich(), Sandwich(num_random=8), One(), Uniform(), Uniform(num_random=8)]


def draw(sampler, space, seed: int, steps: int = 20) -> list:
    generator = torch.Generator().manual_seed(seed)
    return [tuple(sampler(space, generator)) for _ in range(steps)]


def test_every_registered_sampler_is_tested_here() -> None:
    assert {SAMPLERS.name_of(sampler) for sampler in ALL} >= {"every", "largest", "sandwich", "one", "uniform"}


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_a_step_has_sub_networks_and_no_duplicates(sampler, space) -> None:
    for specs in draw(sampler, space, seed=0):
        assert specs
        assert len(set(specs)) == len(specs)


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_no_sub_network_comes_after_one_that_it_holds(sampler, space) -> None:
    for specs in draw(sampler, space, seed=1):
        for index, spec in enumerate(specs):
            assert not any(is_part_of(earlier, spec) for earlier in specs[:index])


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_the_same_seed_draws_the_same(sampler, space) -> None:
    torch.manual_seed(0)
    first = draw(sampler, space, seed=2)
    torch.manual_seed(1)
    assert draw(sampler, space, seed=2) == first


@pytest.mark.parametrize("sampler", [Sandwich(), One(), Uniform()], ids=repr)
def test_another_seed_draws_something_else(sampler, space) -> None:
    assert draw(sampler, space, seed=3) != draw(sampler, space, seed=4)


def test_every_takes_the_whole_grid_in_order(space) -> None:
    assert draw(Every(), space, 0, 1) == [tuple(point.spec for point in space.points())]


def test_largest_takes_only_the_largest(space) -> None:
    assert draw(Largest(), space, 0, 1) == [(space.topology.full,)]


def test_sandwich_begins_with_the_largest_and_ends_with_the_smallest(space) -> None:
    for specs in draw(Sandwich(num_random=3), space, 0):
        assert (specs[0], specs[-1]) == (space.largest().spec, space.smallest().spec)
        assert 2 <= len(specs) <= 5


def test_sandwich_of_a_space_of_one_point_is_that_point(space) -> None:
    single = Space(space.topology, (Axis("width", (0.5,)),), space.depth_policy)
    assert draw(Sandwich(), single, 0, 1) == [(single.largest().spec,)]


def test_one_reaches_every_point_of_the_grid(space) -> None:
    assert {spec for specs in draw(One(), space, 0, 200) for spec in specs} == {point.spec for point in space.points()}


def test_uniform_begins_with_the_largest_and_varies_by_layer(space) -> None:
    steps = draw(Uniform(), space, 0)
    assert all(specs[0] == space.largest().spec for specs in steps)
    heads = [[n for name, n in spec.units.items() if name.endswith("heads")] for specs in steps for spec in specs[1:]]
    assert any(len(set(sizes)) > 1 for sizes in heads)
