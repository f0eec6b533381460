"""Where a value of a recipe stands, and how a message names the place."""

from __future__ import annotations

from collections.abc import Callable

from slimformer.errors import printable

Location = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""

Place = Callable[[Location], str]
"""Says where a value was written: "recipe.toml:8: " or "--set key=value: "."""


def dotted(location: Location) -> str:
    """A location as a recipe's key: "stage.0.training"; keys that cannot be shown as they are stand in quotes."""
    return ".".join(part if (part := str(key)) and part == printable(part) else repr(part) for key in location)
