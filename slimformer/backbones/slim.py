"""Describe a model that is itself a sub-network, such as an exported one, by the backbone of its family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimformer.supernet.outputs import Batch
from slimformer.supernet.topology import Topology

if TYPE_CHECKING:
    from torch import nn

    from slimformer.backbones.base import Backbone


@dataclass(frozen=True)
class SlimBackbone:
    """A family's backbone for a model that is itself a sub-network.

    A backbone may read the number of units off the configuration, which keeps the stock sizes there. So it describes the stock
    model, and the groups get the sizes that the narrower model has.
    """

    family: Backbone

    def describes(self, model: nn.Module) -> bool:
        return is_slim(model) and self.family.describes(stock_of(model))

    def topology(self, model: nn.Module) -> Topology:
        from slimformer.supernet.nested import narrowed

        shapes = {name: p.shape for name, p in model.named_parameters(remove_duplicate=False)}
        return narrowed(self.family.topology(stock_of(model)), shapes)

    def example(self, model: nn.Module, batch_size: int, length: int) -> Batch:
        return self.family.example(model, batch_size, length)


def family_of(backbone: Backbone) -> Backbone:
    """The registered backbone that a backbone is, or by which it describes a model that is itself a sub-network."""
    return backbone.family if isinstance(backbone, SlimBackbone) else backbone


def is_slim(model: nn.Module) -> bool:
    """Whether a model's configuration alone does not say its shapes, but `config.slimformer` does."""
    return bool(getattr(getattr(model, "config", None), "slimformer", None))


def stock_of(model: nn.Module) -> nn.Module:
    """The stock model of a slim model's configuration, with its blocks and modules but stock sizes, and without weights."""
    from slimformer.supernet import nested

    return nested.stock_of(model)
