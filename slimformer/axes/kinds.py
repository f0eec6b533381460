"""The elastic axes of the in-tree backbones: width and its parts, depth, and the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slimformer.axes.base import AXES, Part, Ratio, count

WIDTHS = (1.0, 0.75, 0.5, 0.25)
"""The width ratios of DynaBERT (arXiv 2004.04037, section 3.1)."""
DEPTHS = (1.0, 0.75, 0.5)
"""The depth ratios of DynaBERT (arXiv 2004.04037, section 3.1)."""


@AXES.register("width")
@dataclass(frozen=True)
class Width:
    """Units of every block: attention heads, feed-forward neurons and experts together.

    ratios: the ratios that `[space] width = "default"` stands for.

    ```python
    from slimformer.axes import AXES, Width
    assert Width().size(12, 0.75) == 9
    assert AXES.build("width") == Width()
    ```
    """

    ratios: tuple[Ratio, ...] = WIDTHS
    part: ClassVar[Part] = "units"
    hint: ClassVar[str] = ""

    def size(self, total: int, ratio: float) -> int:
        """At least one unit, halves rounded to even."""
        return count(total, ratio)


@AXES.register("width.heads")
@dataclass(frozen=True)
class Heads(Width):
    """Attention heads, or key-value groups with all query heads that read them.

    ratios: the ratios that `[space] "width.heads" = "default"` stands for.
    """


@AXES.register("width.cross")
@dataclass(frozen=True)
class CrossHeads(Width):
    """Heads of the decoder's attention to the encoder.

    ratios: the ratios that `[space] "width.cross" = "default"` stands for.
    """


@AXES.register("width.ffn")
@dataclass(frozen=True)
class Neurons(Width):
    """Neurons of the feed-forward layers, of dense ones and of each expert.

    ratios: the ratios that `[space] "width.ffn" = "default"` stands for.
    """


@AXES.register("width.experts")
@dataclass(frozen=True)
class Experts(Width):
    """Experts of a mixture; at least as many remain as the router picks for a token.

    ratios: the ratios that `[space] "width.experts" = "default"` stands for.
    """


@AXES.register("width.shared")
@dataclass(frozen=True)
class SharedNeurons(Width):
    """Neurons of the feed-forward layer that all tokens of a mixture of experts share.

    ratios: the ratios that `[space] "width.shared" = "default"` stands for.
    """


@AXES.register("hidden")
@dataclass(frozen=True)
class Hidden(Width):
    """Width of the residual stream that every block reads and adds to.

    ratios: the ratios that `[space] hidden = "default"` stands for.
    """

    ratios: tuple[Ratio, ...] = (1.0, 0.75, 0.5)
    hint: ClassVar[str] = 'ask the backbone for it, for example model.backbones = [{ name = "bert", hidden = true }]'


@AXES.register("depth")
@dataclass(frozen=True)
class Depth:
    """Transformer blocks; `space.depth_policy` picks which of them remain.

    ratios: the ratios that `[space] depth = "default"` stands for.

    ```python
    from slimformer.axes import Depth
    assert Depth().size(6, 0.5) == 3
    ```
    """

    ratios: tuple[Ratio, ...] = DEPTHS
    part: ClassVar[Part] = "blocks"
    hint: ClassVar[str] = ""

    def size(self, total: int, ratio: float) -> int:
        """At least one block, halves rounded to even."""
        return count(total, ratio)
