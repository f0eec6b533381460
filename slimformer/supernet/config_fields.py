"""Read and write values of a model's configuration by dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLACES = "slimformer_places"
"""The configuration's field with the units' places in shared inputs, by module and argument, once they were rewired."""


def read_field(config: Any, field: str) -> Any:
    """A value of a configuration, None where there is none; dots lead into its parts and tables."""
    for part in field.split("."):
        config = config.get(part) if isinstance(config, Mapping) else getattr(config, part, None)
    return config


def write_field_(config: Any, field: str, value: Any) -> None:
    """Set a value of a configuration; dots lead into its parts and tables, a table being replaced, not changed."""
    name, dot, rest = field.partition(".")
    part = getattr(config, name, None) or {}
    if not dot:
        setattr(config, name, value)
    elif isinstance(part, Mapping):
        setattr(config, name, {**part, rest: value})
    else:
        write_field_(part, rest, value)
