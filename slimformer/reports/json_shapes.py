"""Read values of known types out of parsed JSON; anything else is a ValueError that names the place."""

from __future__ import annotations

import sys


def text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{place} is {shown(value)}, not text")
    return value


def number(value: object, place: str) -> float:
    """A finite number, an integer staying one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{place} is {shown(value)}, not a finite number")
    return value


def table(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is {shown(value)}, not a table")
    return value


def items(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{place} is {shown(value)}, not a list")
    return value


def numbers(value: object, place: str) -> dict[str, float]:
    return {name: number(found, f"{place}.{name}") for name, found in table(value, place).items()}


def metrics_by_split(value: object, place: str) -> dict[str, dict[str, float]]:
    return {split: numbers(found, f"{place}.{split}") for split, found in table(value, place).items()}


def shown(value: object) -> str:
    """A value in at most 40 characters of one line."""
    written = repr(value)
    return written if len(written) <= 40 else written[:37] + "..."
