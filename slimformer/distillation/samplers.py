"""Samplers: the choice of the sub-networks that a training step runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from slimformer.axes.space import Space
from slimformer.registry import Count, Registry
from slimformer.supernet.spec import SubnetSpec

if TYPE_CHECKING:
    from torch import Generator


class Sampler(Protocol):
    """A function that chooses the sub-networks of one training step.

    Laws: the result is not empty, has no duplicates, comes largest first where sizes are comparable, and is a function of
    the space and the generator's state alone, so that every process of a distributed run draws the same.
    """

    def __call__(self, space: Space, generator: Generator) -> Sequence[SubnetSpec]: ...


SAMPLERS: Registry[Sampler] = Registry("sampler", "samplers", requires=("__call__",))
"""Samplers by name."""


def largest_first(specs: Iterable[SubnetSpec]) -> list[SubnetSpec]:
    """The specs without duplicates, none after one that it holds: by descending number of units and blocks."""

    def size(spec: SubnetSpec) -> int:
        return sum(spec.units.values()) + sum(len(kept) for kept in spec.blocks.values())

    return sorted(dict.fromkeys(specs), key=size, reverse=True)


@SAMPLERS.register("every")
@dataclass(frozen=True)
class Every:
    """Every sub-network of the grid, in every step (as in DynaBERT).

    ```python
    from slimformer.distillation import SAMPLERS, Every
    assert SAMPLERS.build("every") == Every()
    ```
    """

    def __call__(self, space: Space, generator: Generator) -> Sequence[SubnetSpec]:
        return [point.spec for point in space.points()]


@SAMPLERS.register("largest")
@dataclass(frozen=True)
class Largest:
    """Only the largest sub-network: ordinary training.

    ```python
    import torch
    generator = torch.Generator().manual_seed(0)
    from slimformer.distillation import Largest
    assert Largest()(space, generator) == [space.topology.full]
    ```
    """

    def __call__(self, space: Space, generator: Generator) -> Sequence[SubnetSpec]:
        return [space.largest().spec]


@SAMPLERS.register("sandwich")
@dataclass(frozen=True)
class Sandwich:
    """The largest, some random and the smallest sub-network of the grid.

    Source: universally slimmable networks (arXiv 1903.05134, section 3.2).

    num_random: random sub-networks in each step; duplicates are left out.

    ```python
    import torch
    generator = torch.Generator().manual_seed(0)
    from slimformer.distillation import Sandwich
    specs = Sandwich(num_random=2)(space, generator)
    assert specs[0] == space.largest().spec and specs[-1] == space.smallest().spec
    ```
    """

    num_random: Count = 2

    def __call__(self, space: Space, generator: Generator) -> Sequence[SubnetSpec]:
        middle = [space.random_point(generator).spec for _ in range(self.num_random)]
        return largest_first([space.largest().spec, *middle, space.smallest().spec])


@SAMPLERS.register("one")
@dataclass(frozen=True)
class One:
    """One sub-network of the grid at random (as in SortedNet, arXiv 2309.00255).

    ```python
    import torch
    generator = torch.Generator().manual_seed(0)
    from slimformer.distillation import One
    assert len(One()(space, generator)) == 1
    ```
    """

    def __call__(self, space: Space, generator: Generator) -> Sequence[SubnetSpec]:
        return [space.random_point(generator).spec]


@SAMPLERS.register("uniform")
@dataclass(frozen=True)
class Uniform:
    """The largest sub-network and random per-layer ones, each group's size uniform between the smallest and the largest.

    num_random: random sub-networks in each step; duplicates are left out.

    ```python
    import torch
    generator = torch.Generator().manual_seed(0)
    from slimformer.distillation import Uniform
    assert Uniform(num_random=3)(space, generator)[0] == space.largest().spec
    ```
    """

    num_random: Count = 2

    def __call__(self, space: Space, generator: Generator) -> Sequence[SubnetSpec]:
        drawn = [space.random_spec(generator) for _ in range(self.num_random)]
        return largest_first([space.largest().spec, *drawn])
