"""The number of parameters of a sub-network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from slimformer.costs import COSTS, Workload
from slimformer_counters.polynomial import Polynomial, Share, polynomial

if TYPE_CHECKING:
    from slimformer.backbones import Backbone
    from slimformer.supernet import SuperNet


@COSTS.register("params")
@dataclass(frozen=True)
class Parameters:
    """Parameters of the extracted sub-network, embeddings included; tied ones count once.

    Law: `price(net, ...)(spec) == sum(p.numel() for p in net.extract(spec).parameters())`. Read from shapes and the topology
    alone, so that a model on the meta device will do; the workload does not matter.
    """

    unit: ClassVar[str] = "parameters"
    is_measured: ClassVar[bool] = False

    def price(self, supernet: SuperNet, backbone: Backbone, workload: Workload) -> Polynomial:
        return parameter_count(supernet, 1)


def parameter_count(supernet: SuperNet, each: int) -> Polynomial:
    """`each` times the number of a spec's parameters."""
    groups = supernet.topology.elastic_dims
    shares = [
        Share(name, each * parameter.numel(), tuple(groups.get(name, {}).values()))
        for name, parameter in supernet.model.named_parameters()
    ]
    return polynomial(supernet.topology, shares)
