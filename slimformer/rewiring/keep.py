"""No rewiring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimformer.importance import Scores
from slimformer.rewiring.base import PASSES, Rewiring

if TYPE_CHECKING:
    from slimformer.supernet.topology import Topology


@PASSES.register("keep")
@dataclass(frozen=True)
class Keep:
    """Units in the order of the checkpoint: no rewiring.

    ```python
    from slimformer.rewiring import Keep
    assert Keep()(supernet.topology, scores={}).is_identity
    ```
    """

    def __call__(self, topology: Topology, scores: Scores) -> Rewiring:
        return Rewiring.identity(topology)
