"""Image classifiers and their image processors, of transformers and, through its wrapper, of timm."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slimformer.backbones import type_of
from slimformer.checkpoints import NEW, change_, in_head, load_model, read_config
from slimformer.errors import CheckpointError, first_line

if TYPE_CHECKING:
    from torch import nn

TIMM = "timm/"


def load_classifier(checkpoint: str, attention: str, classes: Sequence[str], changes: Mapping[str, Any]) -> nn.Module:
    """The checkpoint's body in float32 with a head for the classes; a head of the right size is kept.

    Raises: CheckpointError when the weights cannot be read or do not fill the body.
    """
    config = read_image_config(checkpoint, classes, changes)
    return load_model("AutoModelForImageClassification", checkpoint, attention, config, _in_classifier)


def _in_classifier(model: Any, key: str) -> bool:
    if type_of(model) != "timm_wrapper":
        return in_head(model, key)
    names = model.timm_model.pretrained_cfg["classifier"]
    return key.startswith(tuple(f"timm_model.{name}." for name in ((names,) if isinstance(names, str) else names)))


def read_image_config(checkpoint: str, classes: Sequence[str], changes: Mapping[str, Any]) -> Any:
    """The checkpoint's configuration with the classes and the changes; for "new:timm/NAME" that of a timm architecture.

    Raises: CheckpointError where it cannot be read, or does not take a change.
    """
    head = {"num_labels": len(classes), "id2label": dict(enumerate(classes)), "label2id": {n: i for i, n in enumerate(classes)}}
    if checkpoint.startswith(NEW + TIMM):
        config = _timm_config(checkpoint.removeprefix(NEW + TIMM), head, changes.get("model_args", {}))
    else:
        config = read_config(checkpoint, head)
    if type_of_config(config) == "timm_wrapper" and config.model_args:  # timm saves there what the wrapper gives itself
        config.model_args = {name: value for name, value in config.model_args.items() if name != "num_classes"}
    return change_(config, changes)


def type_of_config(config: Any) -> str:
    return str(config.model_type)


def _timm_config(name: str, head: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    """The configuration of a new timm model; pictures are made as large as the argument `img_size` says."""
    import timm
    from transformers import TimmWrapperConfig

    known = timm.get_pretrained_cfg(name)
    if known is None:
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0)
        raise CheckpointError(f"timm has no architecture {name!r}; the nearest are: {', '.join(near)}")
    size = arguments.get("img_size", known.input_size[1:])
    height, width = size if isinstance(size, list | tuple) else (size, size)
    pictures = known.to_dict() | {"input_size": (arguments.get("in_chans", 3), height, width)}
    table = {"architecture": name.partition(".")[0], "pretrained_cfg": pictures, "model_args": {}}
    return TimmWrapperConfig.from_dict(table, **head)


def load_processor(checkpoint: str, config: Any) -> Any:
    """What turns pictures into the model's input as the checkpoint says.

    Raises: CheckpointError
    """
    import transformers

    source = checkpoint.removeprefix(NEW)
    try:
        if type_of_config(config) == "timm_wrapper":
            return transformers.TimmWrapperImageProcessor(config.pretrained_cfg, config.architecture)
        return transformers.AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # json, timm and the hub each have their own
        raise CheckpointError(
            f"cannot load an image processor from {source!r}: {first_line(error)}; save preprocessor_config.json beside the "
            "weights"
        ) from error
