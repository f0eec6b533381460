"""The control for rewiring: a random order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimformer.importance import Scores
from slimformer.rewiring.base import PASSES, Rewiring

if TYPE_CHECKING:
    from slimformer.supernet.topology import Topology


@PASSES.register("shuffle")
@dataclass(frozen=True)
class Shuffle:
    """Units in random order, whatever their importance: the control.

    seed: the start of the random generator.

    ```python
    from slimformer.rewiring import Shuffle
    rewiring = Shuffle(seed=1)(supernet.topology, scores={})
    assert not rewiring.is_identity
    ```
    """

    seed: int = 0

    def __call__(self, topology: Topology, scores: Scores) -> Rewiring:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        orders = {g.name: torch.randperm(g.num_units, generator=generator).tolist() for g in topology.groups}
        return Rewiring.of(topology, orders)
