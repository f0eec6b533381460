"""The rewiring of DynaBERT: most important first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimformer.importance import Scores
from slimformer.rewiring.base import PASSES, Rewiring

if TYPE_CHECKING:
    from slimformer.supernet.topology import Topology


@PASSES.register("sort")
@dataclass(frozen=True)
class Sort:
    """Units by descending importance, so that the important ones are shared by most sub-networks.

    Equal scores keep their order.

    reverse: least important first, the worst case to compare with.

    ```python
    from slimformer.importance import Magnitude
    from slimformer.rewiring import Sort
    rewiring = Sort()(supernet.topology, Magnitude()(supernet, []))
    rewiring.apply_(supernet)
    ```
    """

    reverse: bool = False

    def __call__(self, topology: Topology, scores: Scores) -> Rewiring:
        orders = {name: score.argsort(descending=not self.reverse, stable=True).tolist() for name, score in scores.items()}
        return Rewiring.of(topology, orders)
