"""Elastic axes: their registry, the ratios chosen on one, and the depth policies that pick the blocks a ratio keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import Field

from slimformer.registry import Registry

if TYPE_CHECKING:
    from slimformer.supernet.topology import UnitGroup

Ratio = Annotated[float, Field(gt=0, le=1)]
"""A share of an axis's units or blocks, above 0 and up to 1."""

Part = Literal["units", "blocks"]
"""Parts of a topology that an axis selects from: the units of its groups, or the blocks of its stacks."""


class ElasticAxis(Protocol):
    """An elastic direction, registered under the name that topologies and `[space]` use for it.

    Laws, for `size(total, ratio)`: it lies in 1..total, equals `total` at ratio 1, and never falls as the ratio rises.

    ratios: the ratios that `[space] NAME = "default"` stands for, largest first.
    part: whether the axis selects units or blocks.
    hint: how a model gets the axis if its topology does not offer it; empty if it cannot.
    """

    @property
    def ratios(self) -> tuple[float, ...]: ...

    part: ClassVar[Part]
    hint: ClassVar[str]

    def size(self, total: int, ratio: float) -> int:
        """The number of units or blocks, of `total`, that a ratio keeps."""
        ...


AXES: Registry[ElasticAxis] = Registry("axis", "axes", requires=("ratios", "part", "hint", "size"))
"""Elastic axes by name. A topology may also offer axes that are not registered: they round as `width` does."""


class DepthPolicy(Protocol):
    """The rule that picks the blocks which remain at a depth ratio.

    Law: the result is ascending, is a subset of `range(num_blocks)`, and has `max(1, round(ratio * num_blocks))` members.
    """

    def __call__(self, num_blocks: int, ratio: float) -> tuple[int, ...]: ...


DEPTH_POLICIES: Registry[DepthPolicy] = Registry("depth policy", "depth_policies", requires=("__call__",))
"""Depth policies by name."""


def count(total: int, ratio: float) -> int:
    """The number of units or blocks, of `total`, that a ratio keeps: at least one, halves rounded to even.

    Source: DynaBERT's released code rounds like this.

    ```python
    from slimformer.axes import count
    assert [count(12, ratio) for ratio in (1.0, 0.25, 0.01)] == [12, 3, 1]
    ```
    """
    return max(1, round(ratio * total))


def axis_of(name: str) -> ElasticAxis | None:
    """The registered axis nearest to a topology's axis; None if there is none.

    "width.text.heads" is the axis "width.heads" of one stack, so the names tried are: the name itself, the name without
    its middle parts, and its first part.

    ```python
    from slimformer.axes import AXES, axis_of
    assert AXES.name_of(axis_of("width.text.heads")) == "width.heads"
    ```
    """
    first, *rest = name.split(".")
    tried = (name, f"{first}.{rest[-1]}" if rest else first, first)
    return next((AXES.get(each)() for each in tried if each in AXES), None)


def size_at(group: UnitGroup, ratio: float) -> int:
    """The number of units of a group that a ratio keeps, rounded by the group's axis, and at least `group.least`."""
    axis = axis_of(group.axis)
    return group.at(ratio) if axis is None else max(group.least, axis.size(group.num_units, ratio))


@dataclass(frozen=True)
class Axis:
    """An elastic direction of a space and the ratios allowed on it, largest first.

    name: an axis of the topology, or a prefix of several ("width" covers "width.heads" and "width.ffn").
    ratios: numbers above 0, up to 1.

    ```python
    from slimformer import Axis
    assert Axis("width", (1.0, 0.5)).covers("width.heads")
    ```
    """

    name: str
    ratios: tuple[float, ...]

    def covers(self, axis: str) -> bool:
        """Whether a choice on this axis decides on the topology's axis of that name."""
        return axis == self.name or axis.startswith(self.name + ".")
