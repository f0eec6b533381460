"""Magnitude importance: the norm of a unit's weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from slimformer.importance.base import SCORERS, Scores, strength
from slimformer.supernet.outputs import Batch

if TYPE_CHECKING:
    from slimformer.supernet.network import SuperNet


@SCORERS.register("magnitude")
@dataclass(frozen=True)
class Magnitude:
    """Norm of the weights that read a unit: no data, no forward pass.

    ```python
    from slimformer.importance import Magnitude
    scores = Magnitude()(supernet, batches=[])
    assert set(scores) == set(supernet.topology.by_name)
    ```
    """

    needs_data: ClassVar[bool] = False

    def __call__(self, supernet: SuperNet, batches: Iterable[Batch]) -> Scores:
        import torch

        scores = {}
        for group in supernet.topology.groups:
            total = torch.zeros(group.num_units)
            for part in (part for part in group.slices if part.carries):
                weights = supernet.units(group, part).detach().float().cpu()
                total += strength(weights).sum(1)
            scores[group.name] = total.sqrt()
        return scores
