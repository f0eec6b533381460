"""Backbones: what a plugin says about a model family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from slimformer.backbones.slim import SlimBackbone, is_slim, stock_of
from slimformer.errors import TopologyError
from slimformer.registry import Registry
from slimformer.supernet.outputs import Batch
from slimformer.supernet.topology import Topology

if TYPE_CHECKING:
    from torch import nn


class Backbone(Protocol):
    """A model family.

    Laws: the nine of `slimformer.testing.check_backbone`, for every model that `describes` accepts.
    """

    def describes(self, model: nn.Module) -> bool:
        """Whether this family's topology fits the model."""
        ...

    def topology(self, model: nn.Module) -> Topology:
        """The unit groups and block stacks of one model; pure."""
        ...

    def example(self, model: nn.Module, batch_size: int, length: int) -> Batch:
        """Inputs of the size at which costs are counted, without padding.

        length: tokens in each example (vision models read their own image size instead).
        Raises: WorkloadError where the model takes no input of that length.
        """
        ...


BACKBONES: Registry[Backbone] = Registry("backbone", "backbones")


def backbone_for(model: nn.Module, preferred: Sequence[Backbone] = ()) -> Backbone:
    """The backbone that describes a model: the first of the preferred ones, or a registered one if none is preferred.

    Raises: TopologyError naming the families there are.
    """
    if is_slim(model):
        return SlimBackbone(backbone_for(stock_of(model), preferred))
    if preferred:
        chosen = [backbone for backbone in preferred if backbone.describes(model)]
        if not chosen:
            names = ", ".join(BACKBONES.name_of(backbone) for backbone in preferred)
            raise TopologyError(f"model.backbones: {names} does not describe {type(model).__name__}: leave it out")
        return chosen[0]
    found = backbones_for(model)
    if not found:
        raise TopologyError(
            f"no backbone describes {type(model).__name__}; there are: {', '.join(BACKBONES.names())}. "
            "Propose one with 'slimformer inspect MODEL --write FILE.py', or write a plugin (docs/write_a_backbone.md)"
        )
    return found[0]


def backbones_for(model: nn.Module) -> tuple[Backbone, ...]:
    """The registered backbones that describe a model, in the order of their names."""
    if is_slim(model):
        return tuple(SlimBackbone(backbone) for backbone in backbones_for(stock_of(model)))
    every: list[Backbone] = [cls() for _, cls in BACKBONES]
    return tuple(backbone for backbone in every if backbone.describes(model))
