"""Elastic axes, and the depth policies that pick the blocks a ratio keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from slimformer.registry import Registry

if TYPE_CHECKING:
    pass


class DepthPolicy(Protocol):
    """Which blocks remain at a depth ratio.

    Law: the result is ascending, is a subset of `range(num_blocks)`, and has `max(1, round(ratio * num_blocks))` members.
    """

    def __call__(self, num_blocks: int, ratio: float) -> tuple[int, ...]: ...


DEPTH_POLICIES: Registry[DepthPolicy] = Registry("depth policy", "depth_policies")


def count(total: int, ratio: float) -> int:
    """How many of `total` blocks a ratio keeps: at least one, halves rounded to even (as DynaBERT's code does)."""
    return max(1, round(ratio * total))


@dataclass(frozen=True)
class Axis:
    """An elastic direction and the ratios allowed on it, largest first.

    name: an axis of the topology, or a prefix of several ("width" covers "width.heads" and "width.ffn").
    """

    name: str
    ratios: tuple[float, ...]

    def covers(self, axis: str) -> bool:
        return axis == self.name or axis.startswith(self.name + ".")
