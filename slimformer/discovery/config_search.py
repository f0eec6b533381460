"""Find the fields of a model's configuration that give the number of its blocks or units, nested configurations included."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from slimformer.discovery.source_check import is_identifier
from slimformer.supernet.outputs import Batch

PARTS = {"encoder", "decoder", "text", "vision", "audio", "qformer"}
"""Words that tell the parts of a model apart, in the names of modules and of the configuration's fields."""


def fields_of(module: nn.Module) -> dict[str, Any]:
    """The fields of a module's own configuration whose names are plain identifiers."""
    config: Any = getattr(module, "config", None)
    fields: dict[object, object] = config.to_dict() if hasattr(config, "to_dict") else {}
    return {str(name): value for name, value in fields.items() if is_identifier(str(name))}


def nested_fields(module: nn.Module) -> dict[str, object]:
    """The same with those of nested configurations, by dotted names."""

    def inside(fields: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
        for name, value in fields.items():
            if is_identifier(str(name)):
                yield f"{prefix}{name}", value
                if isinstance(value, dict):
                    yield from inside(value, f"{prefix}{name}.")

    return dict(inside(fields_of(module), ""))


def depth_field(model: nn.Module, path: str, number: int) -> str:
    """The field with the number of blocks of the list at `path`, "" where there is none."""
    found = [n for n, v in nested_fields(model).items() if type(v) is int and v == number and "layer" in n.rpartition(".")[2]]
    fitting = [name for name in found if _words(name) <= _words(path)]
    ranked = sorted(fitting, key=lambda name: (-len(_words(name)), not name.endswith("num_hidden_layers"), name))
    return ranked[0] if ranked else ""


def list_fields(model: nn.Module, path: str, number: int) -> tuple[str, ...]:
    """The fields with an entry for each block of the list at `path`."""
    fields = nested_fields(model).items()
    return tuple(n for n, v in fields if isinstance(v, list) and len(v) == number and _words(n) <= _words(path))


def unseen_windows(model: nn.Module, batch: Batch) -> dict[str, str]:
    """The attention windows that no input of a trace is longer than, each with the reason to refuse it."""
    ids = [tensor.shape[1] for name, tensor in batch.items() if name.endswith("input_ids") and tensor.dim() == 2]
    if not ids:
        return {}
    windows = {n: v for n, v in nested_fields(model).items() if "window" in n and type(v) is int and v >= min(ids)}
    reason = f"the trace has {min(ids)} tokens: that blocks differ in their windows was not seen"
    return {f"config.{name}={size}": reason for name, size in windows.items()}


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z]+", name.lower())) & PARTS
