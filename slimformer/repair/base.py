"""The protocol and registry of repairs: how the weights of a sub-network are refitted without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from slimformer.registry import Registry
from slimformer.supernet.outputs import Batch

if TYPE_CHECKING:
    from torch import nn

    from slimformer.repair.streams import TeacherStreams
    from slimformer.supernet.network import SuperNet
    from slimformer.supernet.spec import SubnetSpec


class Repair(Protocol):
    """Cut a sub-network out and change its weights so that it computes more nearly what the whole model computes.

    Laws, for a super-network `s` and calibration batches `b` (labels are never read):
    1. `repair(s, full, b)` has the weights of `s.extract(full)`, bit for bit.
    2. `s` is left as it was.
    3. Padding, the order of examples in `b` and the order of units change nothing beyond float error.

    teacher: what `record_streams(s, b)` returned, to share it between the specs of one super-network; recorded anew if None.

    Returns: a plain module of the model's own class, in eval mode, that owns its weights.
    Raises: RepairError where the calibration batches are empty, too few, or give numbers that are not finite.
    """

    def __call__(
        self, supernet: SuperNet, spec: SubnetSpec, batches: Sequence[Batch], teacher: TeacherStreams | None = None
    ) -> nn.Module: ...


REPAIRS: Registry[Repair] = Registry("repair", "repairs")
"""Repairs by name."""
