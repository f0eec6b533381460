"""Random importance: the control."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from slimformer.importance.base import SCORERS, Scores
from slimformer.supernet.outputs import Batch

if TYPE_CHECKING:
    from slimformer.supernet.network import SuperNet


@SCORERS.register("random")
@dataclass(frozen=True)
class RandomScores:
    """Random numbers: the control that any other scorer has to beat.

    seed: the start of the random generator.

    ```python
    from slimformer.importance import RandomScores
    scores = RandomScores(seed=1)(supernet, batches=[])
    assert len(scores["encoder.0.heads"]) == 4
    ```
    """

    seed: int = 0
    needs_data: ClassVar[bool] = False

    def __call__(self, supernet: SuperNet, batches: Iterable[Batch]) -> Scores:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        return {group.name: torch.rand(group.num_units, generator=generator) for group in supernet.topology.groups}
