"""Values that no recipe may have: numbers that are not finite or too large, and tables nested too deeply."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping

from slimformer.recipe.location import Location

DEEPEST = 40
"""Tables and lists inside one another."""

LARGEST = 2**63
"""Whole numbers of TOML are below this, and not below its negative."""


class TextError(ValueError):
    """A text that is no TOML; `line` is the line that says so, from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def parse_toml(text: str) -> dict[str, object]:
    """The table of a TOML document.

    Raises: TextError, whatever is wrong with the text.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise TextError(str(error), int(line[1]) if line else text.count("\n") + 1) from None
    except RecursionError:
        lines = text.split("\n")
        worst = max(range(len(lines)), key=lambda number: lines[number].count("[") + lines[number].count("{"))
        raise TextError(f"tables and lists are nested more than {DEEPEST} deep", worst + 1) from None
    except ValueError as error:  # an integer of more digits than Python reads
        number = re.search(r"[0-9][0-9_]{3000,}", text)
        raise TextError(str(error).partition(";")[0], text.count("\n", 0, number.start() if number else 0) + 1) from None


def wrong_values(table: object, at: Location = ()) -> Iterator[tuple[Location, str]]:
    """The places in a recipe's table of values that no recipe may have, and what is wrong with each."""
    left: list[tuple[Location, object]] = [(at, table)]
    while left:
        location, value = left.pop()
        if len(location) > DEEPEST:
            yield location[:2], f"tables and lists are nested more than {DEEPEST} deep"
        elif isinstance(value, Mapping):
            left.extend(((*location, key), part) for key, part in reversed([*value.items()]))
        elif isinstance(value, list | tuple):
            left.extend(((*location, index), part) for index, part in reversed([*enumerate(value)]))
        elif isinstance(value, float) and not math.isfinite(value):
            yield location, f"input should be a finite number, got {value}"
        elif isinstance(value, int) and not -LARGEST <= value < LARGEST:
            yield location, "input should be a whole number of at most 64 bits"
