"""Elastic axes: which ratios are allowed on them, which blocks a depth ratio keeps, and the space they span."""

from slimformer.axes.base import DEPTH_POLICIES, Axis, DepthPolicy, count
from slimformer.axes.depth import Ends, KeepLast, Reference
from slimformer.axes.space import Point, Space, read_ratios

__all__ = ["DEPTH_POLICIES", "Axis", "DepthPolicy", "Ends", "KeepLast", "Point", "Reference", "Space", "count", "read_ratios"]
