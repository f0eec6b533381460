"""The memory that a sub-network's weights take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from slimformer.costs import COSTS, Workload
from slimformer_counters.parameters import parameter_count
from slimformer_counters.polynomial import Polynomial

if TYPE_CHECKING:
    from slimformer.backbones import Backbone
    from slimformer.supernet import SuperNet

NumberType = Literal["float32", "float16", "bfloat16", "int8"]

BYTES: dict[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
"""Bytes of a number."""


@COSTS.register("weights")
@dataclass(frozen=True)
class Weights:
    """Bytes of the extracted sub-network's parameters at a number type; tied ones count once.

    Law: `price(net, ...)(spec) == BYTES[dtype] * sum(p.numel() for p in net.extract(spec).parameters())`. Scales of a
    quantisation and the framework's own memory are not in it.

    dtype: the number type in which the weights are stored.
    """

    dtype: NumberType = "float32"

    unit: ClassVar[str] = "bytes of weights"
    is_measured: ClassVar[bool] = False

    def price(self, supernet: SuperNet, backbone: Backbone, workload: Workload) -> Polynomial:
        return parameter_count(supernet, BYTES[self.dtype])
