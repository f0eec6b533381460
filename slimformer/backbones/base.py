"""Backbones: what a plugin says about a model family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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


@dataclass(frozen=True)
class SlimBackbone:
    """What a family's backbone says of a model that is itself a sub-network, such as an exported one.

    A backbone may read the number of units off the configuration, which keeps the stock sizes there. So it describes the stock
    model, and the groups get the sizes that the narrower model has.
    """

    family: Backbone

    def describes(self, model: nn.Module) -> bool:
        return self.family.describes(_stock(model))

    def topology(self, model: nn.Module) -> Topology:
        from slimformer.supernet.nested import narrowed

        shapes = {name: p.shape for name, p in model.named_parameters(remove_duplicate=False)}
        return narrowed(self.family.topology(_stock(model)), shapes)

    def example(self, model: nn.Module, batch_size: int, length: int) -> Batch:
        return self.family.example(model, batch_size, length)


def family_of(backbone: Backbone) -> Backbone:
    """The registered backbone that a backbone is, or by which it describes a model that is itself a sub-network."""
    return backbone.family if isinstance(backbone, SlimBackbone) else backbone


def _is_slim(model: nn.Module) -> bool:
    """Whether a model's configuration alone does not say its shapes, but `config.slimformer` does."""
    return bool(getattr(getattr(model, "config", None), "slimformer", None))


def _stock(model: nn.Module) -> nn.Module:
    from slimformer.supernet.nested import stock_of

    return stock_of(model) if _is_slim(model) else model


def backbone_for(model: nn.Module, preferred: Sequence[Backbone] = ()) -> Backbone:
    """The backbone that describes a model: the first of the preferred ones, or a registered one if none is preferred.

    Raises: TopologyError naming the families there are.
    """
    if preferred:
        chosen = _describing(preferred, model)
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
    return tuple(_describing([cls() for _, cls in BACKBONES], model))


def _describing(backbones: Sequence[Backbone], model: nn.Module) -> list[Backbone]:
    stock = _stock(model)
    found = [backbone for backbone in backbones if backbone.describes(stock)]
    return [SlimBackbone(backbone) for backbone in found] if _is_slim(model) else found
