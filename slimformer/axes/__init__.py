"""Elastic axes: the ratios allowed on them, the blocks that a depth ratio keeps, and the space of sub-networks they span."""

from slimformer.axes.base import AXES, DEPTH_POLICIES, Axis, DepthPolicy, ElasticAxis, Part, Ratio, axis_of, count, size_at
from slimformer.axes.depth import Ends, KeepLast, Reference
from slimformer.axes.kinds import CrossHeads, Depth, Experts, Heads, Hidden, Neurons, SharedNeurons, Width
from slimformer.axes.space import Point, Space, read_ratios

__all__ = [
    "AXES", "DEPTH_POLICIES", "Axis", "CrossHeads", "Depth", "DepthPolicy", "ElasticAxis", "Ends", "Experts", "Heads", "Hidden",
    "KeepLast", "Neurons", "Part", "Point", "Ratio", "Reference", "SharedNeurons", "Space", "Width", "axis_of", "count",
    "read_ratios", "size_at",
]  # fmt: skip
