"""Depth policies: the blocks that remain at a depth ratio, by the paper's rule and by the released code's."""

from __future__ import annotations

from dataclasses import dataclass

from slimformer.axes.base import DEPTH_POLICIES, count


@DEPTH_POLICIES.register("keep_last")
@dataclass(frozen=True)
class KeepLast:
    """Evenly spread blocks, the last one always kept (the paper: 12 blocks at 0.75 keep 0,1,3,4,5,7,8,9,11).

    Source: DynaBERT (arXiv 2004.04037), section 2.2.

    ```python
    from slimformer.axes import KeepLast
    assert KeepLast()(12, 0.5) == (1, 3, 5, 7, 9, 11)
    ```
    """

    def __call__(self, num_blocks: int, ratio: float) -> tuple[int, ...]:
        depth = count(num_blocks, ratio)
        return tuple(i * num_blocks // depth - 1 for i in range(1, depth + 1))


@DEPTH_POLICIES.register("reference")
@dataclass(frozen=True)
class Reference:
    """Evenly spread blocks, the first one always kept (the released code: 12 at 0.75 keep 0,1,2,4,5,6,8,9,10).

    Source: `BertEncoder.forward` of the DynaBERT release.

    ```python
    from slimformer.axes import Reference
    assert Reference()(12, 0.5) == (0, 2, 4, 6, 8, 10)
    ```
    """

    def __call__(self, num_blocks: int, ratio: float) -> tuple[int, ...]:
        depth = count(num_blocks, ratio)
        return tuple(i * num_blocks // depth for i in range(depth))


@DEPTH_POLICIES.register("ends")
@dataclass(frozen=True)
class Ends:
    """Evenly spread blocks, the first and the last one always kept (12 blocks at 0.5 keep 0,2,4,7,9,11).

    A sub-network without the last block can hardly be repaired, and one without the first loses much.

    ```python
    from slimformer.axes import Ends
    assert Ends()(12, 0.5) == (0, 2, 4, 7, 9, 11)
    ```
    """

    def __call__(self, num_blocks: int, ratio: float) -> tuple[int, ...]:
        depth = count(num_blocks, ratio)
        if depth == 1:
            return (num_blocks - 1,)
        return tuple(round(i * (num_blocks - 1) / (depth - 1)) for i in range(depth))
