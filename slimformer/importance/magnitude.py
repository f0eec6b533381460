"""Magnitude importance: the norm of a unit's weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from slimformer.data import Batch
from slimformer.importance.base import SCORERS, Scores, readers

if TYPE_CHECKING:
    from slimformer.supernet import SuperNet


@SCORERS.register("magnitude")
@dataclass(frozen=True)
class Magnitude:
    """Norm of the weights that read a unit: no data, no forward pass."""

    needs_data: ClassVar[bool] = False

    def __call__(self, supernet: SuperNet, batches: Iterable[Batch]) -> Scores:
        import torch

        scores = {}
        for group in supernet.topology.groups:
            total = torch.zeros(group.num_units)
            for module, unit_size in readers(group):
                weight = supernet.model.get_parameter(f"{module}.weight").detach().float().cpu()
                total += weight.square().sum(0).unflatten(0, (-1, unit_size)).sum(1)
            scores[group.name] = total.sqrt()
        return scores
