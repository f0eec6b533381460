"""None: the sub-network as it is cut out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimformer.repair.base import REPAIRS
from slimformer.supernet.outputs import Batch

if TYPE_CHECKING:
    from torch import nn

    from slimformer.repair.streams import TeacherStreams
    from slimformer.supernet.network import SuperNet
    from slimformer.supernet.spec import SubnetSpec


@REPAIRS.register("none")
@dataclass(frozen=True)
class NoRepair:
    """Change nothing."""

    def __call__(
        self, supernet: SuperNet, spec: SubnetSpec, batches: Sequence[Batch], teacher: TeacherStreams | None = None
    ) -> nn.Module:
        return supernet.extract(spec).eval()
