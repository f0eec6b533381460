"""The command line: one file for each group of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names

if TYPE_CHECKING:
    from slimformer.cli.app import main as main

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "app": ["main"],
    },
)
