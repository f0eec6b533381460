"""Names of sub-networks: a grid point's, or one made from the spec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from slimformer.supernet.spec import SubnetSpec


@dataclass(frozen=True)
class SubnetNames:
    """Names of the sub-networks of a run. points: the names of the grid's specs."""

    points: Mapping[SubnetSpec, str]

    def of(self, spec: SubnetSpec) -> str:
        """A point's name, or, for a per-layer spec, "layers-" and the first digits of its hash."""
        return self.points.get(spec) or f"layers-{hashlib.sha256(repr(spec.key).encode()).hexdigest()[:6]}"
