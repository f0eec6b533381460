"""The head of a checkpoint: the order of its classes, and whether it can be used without fine-tuning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from slimformer.checkpoints import NEW, read_config
from slimformer.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

GENERIC = re.compile(r"LABEL_\d+")
"""A class name that transformers makes up where a checkpoint names none."""


def classes_of(checkpoint: str) -> tuple[str, ...]:
    """The class names of a checkpoint's head in the order of their numbers; empty where it has none of its own.

    Raises: CheckpointError where the configuration cannot be read.
    """
    if checkpoint.startswith(NEW):
        return ()
    named = getattr(read_config(checkpoint), "id2label", None)
    if not isinstance(named, Mapping):
        return ()
    names = tuple(str(named[number]) for number in sorted(named))
    return () if any(GENERIC.fullmatch(name) for name in names) else names


def in_order_of(checkpoint: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes of a task in the order of the checkpoint's head where both have the same names, else as they are.

    A head is a row of weights for each class: data must be numbered as the head is. Upper and lower case are the same.
    Law: `set(in_order_of(c, names)) == set(names)`.
    Raises: CheckpointError where the configuration cannot be read.
    """
    own = [_plain(name) for name in classes_of(checkpoint)]
    mine = {_plain(name): name for name in classes}
    if len(mine) != len(classes) or sorted(own) != sorted(mine):
        return tuple(classes)
    return tuple(mine[name] for name in own)


def check_head(model: nn.Module, checkpoint: str) -> None:
    """Check that a model that is not fine-tuned has a trained head for the classes of its task.

    model: as `load_model` of a task made it from the checkpoint.
    Raises: CheckpointError where the head was drawn at random, or where the checkpoint's head has other classes.
    """
    drawn, names = model.__dict__.get("drawn_weights", ()), classes_of(checkpoint)
    advice = "set finetune.epochs to 1 or more, or give a checkpoint that was fine-tuned on this task"
    if drawn:
        raise CheckpointError(
            f"finetune.epochs = 0 keeps the checkpoint's head, but it has none that fits: {drawn[0]} was drawn at random; {advice}"
        )
    config = getattr(model, "config", None)
    classes = tuple(str(name) for name in (getattr(config, "id2label", None) or {}).values())
    if names and classes and sorted(map(_plain, names)) != sorted(map(_plain, classes)):
        raise CheckpointError(
            f"finetune.epochs = 0 keeps the checkpoint's head, whose classes are {_listed(names)}, but the data's are "
            f"{_listed(classes)}: rename the labels of the data, or {advice}"
        )


def _plain(name: str) -> str:
    return name.strip().casefold()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
