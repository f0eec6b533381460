"""Costs: what a sub-network takes, computed from its spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

from pydantic import ConfigDict, Field

from slimformer.registry import Registry
from slimformer.supernet.spec import SubnetSpec

if TYPE_CHECKING:
    from slimformer.backbones.base import Backbone
    from slimformer.supernet.network import SuperNet


@dataclass(frozen=True)
class Workload:
    """The inputs for which a cost is stated.

    batch_size: examples in a batch. length: tokens in an example, without padding.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    batch_size: Annotated[int, Field(ge=1)] = 1
    length: Annotated[int, Field(ge=1)] = 128


class Cost(Protocol):
    """A price of a sub-network; `price` prepares once for a model and workload and returns a quick pure function.

    Law: the returned function is non-decreasing in every group's number of units and in every stack's set of blocks.

    is_measured: whether `price` runs the model, which takes its time and needs weights; such a cost has an option `folder`,
        in which it keeps what it measured ("": nowhere).
    """

    unit: ClassVar[str]
    is_measured: ClassVar[bool]

    def price(self, supernet: SuperNet, backbone: Backbone, workload: Workload) -> Pricer:
        """The function from a spec to its price in `unit`."""
        ...


class Pricer(Protocol):
    """A pure, quick function from a spec to its price, in the unit of the cost that made it."""

    def __call__(self, spec: SubnetSpec) -> float: ...


COSTS: Registry[Cost] = Registry("cost", "costs", requires=("unit", "price"))
"""Costs by name."""


def unit_of(name: str) -> str:
    """The unit of a cost, by its name."""
    return str(COSTS.get(name).unit)


def is_measured(name: str) -> bool:
    """Whether a cost runs the model to find its prices; one that does not say is counted."""
    return bool(getattr(COSTS.get(name), "is_measured", False))


def counted_costs() -> tuple[str, ...]:
    """The names of the costs that a spec alone determines, without running the model."""
    return tuple(name for name in COSTS.names() if not is_measured(name))
