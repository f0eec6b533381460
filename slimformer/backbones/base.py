"""The protocol and registry of backbones, and the choice of one for a model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from slimformer.backbones.slim import SlimBackbone, is_slim, stock_of
from slimformer.errors import TopologyError, first_line
from slimformer.registry import Registry
from slimformer.supernet.outputs import Batch
from slimformer.supernet.topology import Topology

if TYPE_CHECKING:
    from torch import nn


class Backbone(Protocol):
    """A description of a model family.

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


BACKBONES: Registry[Backbone] = Registry("backbone", "backbones", requires=("describes", "topology", "example"))
"""Backbones by name."""


def backbone_for(model: nn.Module, preferred: Sequence[Backbone] = ()) -> Backbone:
    """The backbone that describes a model: the first of the preferred ones, or a registered one if none is preferred.

    Raises: TopologyError naming the families there are.
    """
    if is_slim(model):
        return SlimBackbone(backbone_for(stock_of(model), preferred))
    if preferred:
        chosen = [backbone for backbone in preferred if _describes(backbone, model)]
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


def _describes(backbone: Backbone, model: nn.Module) -> bool:
    """Whether a backbone that the user named describes the model.

    Raises: TopologyError if the backbone fails at the question.
    """
    try:
        return backbone.describes(model)
    except Exception as error:
        name = BACKBONES.name_of(backbone)
        raise TopologyError(
            f"model.backbones: {name} failed to say whether it describes the model: {first_line(error)}"
        ) from error


def backbones_for(model: nn.Module) -> tuple[Backbone, ...]:
    """The registered backbones that describe a model, in the order of their names."""
    if is_slim(model):
        return tuple(SlimBackbone(backbone) for backbone in backbones_for(stock_of(model)))
    return tuple(backbone for name, cls in BACKBONES if (backbone := _if_describes(name, cls, model)) is not None)


def _if_describes(name: str, cls: type, model: nn.Module) -> Backbone | None:
    """A backbone if it describes the model; one that fails at the question is left out with a warning."""
    try:
        backbone: Backbone = cls()
        return backbone if backbone.describes(model) else None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's code: anything can happen
        message = first_line(error) if isinstance(error, Exception) else type(error).__name__
        warnings.warn(f"backbone {name!r} was left out, its describes() failed: {message}", UserWarning, stacklevel=3)
        return None
