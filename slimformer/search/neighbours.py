"""Moves in a per-layer space: draw a spec at random, change one, mix two, and fit one to the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from slimformer.search.base import Problem
from slimformer.search.choices import Choices
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import BlockStack

if TYPE_CHECKING:
    from torch import Generator

Blocks = Mapping[str, tuple[int, ...]]

TRIES = 50
"""How often a random draw is repeated before it counts as failed."""


def randomness(generator: Generator) -> Random:
    """Python's generator, seeded by torch's."""
    import torch

    return Random(int(torch.randint(2**62, (), generator=generator)))


def draw(choices: Choices, random: Random) -> SubnetSpec:
    """A spec whose every size and set of blocks is drawn uniformly."""
    blocks = {stack.name: _draw_blocks(choices, stack, random) for stack in choices.topology.stacks}
    return _build(choices, {name: random.choice(sizes) for name, sizes in choices.sizes.items()}, blocks)


def _draw_blocks(choices: Choices, stack: BlockStack, random: Random) -> tuple[int, ...]:
    if stack.name in choices.listed:
        return random.choice(choices.listed[stack.name])
    depth = random.randint(choices.least[stack.name], choices.most[stack.name])
    return tuple(sorted(random.sample(range(stack.num_blocks), depth)))


def mutate(choices: Choices, spec: SubnetSpec, random: Random, rate: float) -> SubnetSpec:
    """Change each size with probability `rate`, mostly to a neighbouring one, and each stack's blocks with `2 * rate`."""
    units = {
        name: _other_size(sizes, spec.units[name], random) if name in spec.units and random.random() < rate else units
        for name, sizes in choices.sizes.items()
        for units in [spec.units.get(name, random.choice(sizes))]
    }
    blocks = dict(spec.blocks)
    for stack in choices.topology.stacks:
        if random.random() < 2 * rate:
            blocks[stack.name] = _other_blocks(choices, stack, blocks[stack.name], random)
    return _build(choices, units, blocks)


def _other_size(sizes: Sequence[int], size: int, random: Random) -> int:
    if random.random() < 0.25:
        return random.choice(sizes)
    place = sizes.index(size) + random.choice((-2, -1, 1, 2))
    return sizes[min(max(place, 0), len(sizes) - 1)]


def _other_blocks(choices: Choices, stack: BlockStack, kept: tuple[int, ...], random: Random) -> tuple[int, ...]:
    """Another legal set: one block more, one fewer, or one exchanged."""
    if stack.name in choices.listed:
        return random.choice(choices.listed[stack.name])
    dropped = sorted(set(range(stack.num_blocks)) - set(kept))
    for _ in range(TRIES):
        fewer = {random.choice(kept)} if random.random() < 0.6 else set()
        more = {random.choice(dropped)} if dropped and random.random() < 0.6 else set()
        changed = tuple(sorted((set(kept) - fewer) | more))
        if changed != kept and choices.may_keep(stack.name, changed):
            return changed
    return kept


def cross(choices: Choices, one: SubnetSpec, other: SubnetSpec, random: Random) -> SubnetSpec:
    """A child that takes each stack's blocks from a parent, and each block's sizes from a parent that has it."""
    blocks = {stack.name: random.choice((one, other)).blocks[stack.name] for stack in choices.topology.stacks}
    lender: dict[object, SubnetSpec] = {}
    units: dict[str, int] = {}
    for name in choices.sizes:
        parents = [parent for parent in (one, other) if name in parent.units]
        if parents:
            place = choices.topology.owner.get(name, name)
            parent = lender.setdefault(place, random.choice(parents))
            units[name] = parent.units[name]
    return _build(choices, units, blocks)


def _build(choices: Choices, units: Mapping[str, int], blocks: Blocks) -> SubnetSpec:
    sizes = {name: units.get(name, choices.sizes[name][-1]) for name in choices.sizes}
    return choices.topology.spec(sizes, blocks)


def fit(problem: Problem, spec: SubnetSpec, random: Random) -> SubnetSpec | None:
    """A spec near the given one that meets the limits, or None where shrinking does not lead to one.

    It is shrunk by random steps until it meets them. Where the goal is the best rating it then grows by random steps until
    no group can take its next size: what the limits allow is used.
    """
    while not problem.meets(spec):
        smaller = _smaller(problem.choices, spec, random)
        if smaller is None:
            return None
        spec = smaller
    return grow(problem, spec, random) if problem.goal.grows else spec


def _smaller(choices: Choices, spec: SubnetSpec, random: Random) -> SubnetSpec | None:
    """One step down: a group's next smaller size, or, where no group has one, a block fewer."""
    able = [name for name, units in spec.units.items() if units > choices.sizes[name][0]]
    if able:
        name = random.choice(able)
        sizes = choices.sizes[name]
        return choices.topology.spec({**spec.units, name: sizes[sizes.index(spec.units[name]) - 1]}, spec.blocks)
    shorter = [(stack, kept) for stack, blocks in spec.blocks.items() for kept in _shorter(choices, stack, blocks)]
    if not shorter:
        return None
    stack, kept = random.choice(shorter)
    blocks = {**spec.blocks, stack: kept}
    alive = {
        name: spec.units.get(name, choices.sizes[name][0])
        for name in choices.sizes
        if choices.topology.is_alive(choices.topology.by_name[name], blocks)
    }
    return choices.topology.spec(alive, blocks)


def _shorter(choices: Choices, stack: str, kept: tuple[int, ...]) -> list[tuple[int, ...]]:
    if stack in choices.listed:
        return [blocks for blocks in choices.listed[stack] if len(blocks) == len(kept) - 1]
    return [tuple(b for b in kept if b != block) for block in kept] if len(kept) > choices.least[stack] else []


def grow(problem: Problem, spec: SubnetSpec, random: Random) -> SubnetSpec:
    """Take random steps up while the limits allow one; without limits the spec stays as it is.

    Law: no group of the result can take its next size within the limits, and no stack another block, however small (every
    cost being non-decreasing).
    """
    larger: SubnetSpec | None = spec if problem.limits else None
    while larger is not None:
        spec = _widened(problem, larger, random)
        larger = _with_a_block(problem, spec, random)
    return spec


def _widened(problem: Problem, spec: SubnetSpec, random: Random) -> SubnetSpec:
    """Random groups at their next size, until none can take it."""
    able = list(spec.units)
    while able:
        name = random.choice(able)
        sizes = problem.choices.sizes[name]
        place = sizes.index(spec.units[name]) + 1
        larger = problem.topology.spec({**spec.units, name: sizes[place]}, spec.blocks) if place < len(sizes) else spec
        if larger == spec or not problem.meets(larger):
            able.remove(name)
        else:
            spec = larger
    return spec


def _with_a_block(problem: Problem, spec: SubnetSpec, random: Random) -> SubnetSpec | None:
    """The spec with one block more, of the smallest sizes; None where the limits allow none."""
    choices = problem.choices
    longer = [(stack, kept) for stack, blocks in spec.blocks.items() for kept in _longer(choices, stack, blocks)]
    for stack, kept in random.sample(longer, len(longer)):
        sizes = {name: spec.units.get(name, sizes[0]) for name, sizes in choices.sizes.items()}
        larger = problem.topology.spec(sizes, {**spec.blocks, stack: kept})
        if problem.meets(larger):
            return larger
    return None


def _longer(choices: Choices, stack: str, kept: tuple[int, ...]) -> list[tuple[int, ...]]:
    if stack in choices.listed:
        return [blocks for blocks in choices.listed[stack] if len(blocks) == len(kept) + 1 and set(kept) < set(blocks)]
    dropped = set(choices.largest().blocks[stack]) - set(kept)
    return [tuple(sorted((*kept, block))) for block in sorted(dropped)] if len(kept) < choices.most[stack] else []
