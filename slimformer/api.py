"""The first steps in Python: make a model elastic, save what was cut out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import nn

from slimformer.backbones.base import Backbone, backbone_for
from slimformer.errors import ExportError
from slimformer.plugins import load_plugins
from slimformer.supernet.network import SuperNet


class Processor(Protocol):
    """A tokenizer or image processor of transformers."""

    def save_pretrained(self, save_directory: str) -> object: ...


def make_elastic(model: nn.Module, backbone: Backbone | None = None) -> SuperNet:
    """Make a pretrained model elastic: find the backbone that describes it, and wrap it as a super-network.

    The model stays as it is; sub-networks are views of its weights.

    model: a model of transformers or timm, or any module that a backbone describes.
    backbone: the description to use; by default the registered backbone that describes the model.
    Raises: TopologyError where no backbone describes the model.

    >>> supernet = slimformer.make_elastic(model)
    >>> supernet.topology.axes
    ('width.heads', 'width.ffn', 'depth')
    """
    load_plugins()
    return SuperNet(model, (backbone or backbone_for(model)).topology(model))


def save_pretrained(model: nn.Module, folder: str | Path, processor: Processor | None = None) -> None:
    """Save an extracted sub-network, with its tokenizer or image processor, as a folder that `from_pretrained` loads.

    model: what `SuperNet.extract` or a repair returned.
    Raises: ExportError for a plain module, which has no `save_pretrained`.

    >>> slimformer.save_pretrained(supernet.extract(half), "small", processor=tokenizer)
    """
    save = getattr(model, "save_pretrained", None)
    if save is None:
        raise ExportError(
            f"{type(model).__name__} has no save_pretrained: save it with slimformer.export.export, or its state dict and the spec"
        )
    save(str(folder))
    if processor is not None:
        processor.save_pretrained(str(folder))
