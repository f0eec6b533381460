"""Quantities as people write them: "1G" <-> 1_000_000_000, "20ms" <-> 0.02, "300MB" <-> 300_000_000."""

from __future__ import annotations

import re

from slimformer.errors import SlimformerError

_SCALES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}

_BYTES = {"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}

_PATTERN = re.compile(r"^\s*([0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)\s*$")


class QuantityError(SlimformerError):
    """Text that is not a positive quantity."""


def parse_quantity(text: str, unit: str = "") -> float:
    """Read "1G", "66.9M", "20ms", "300MB", "1e9" as a plain number (counts as they are, times in seconds, sizes in bytes).

    unit: what is measured: a text that begins with "seconds" or "bytes", anything else for a count; "" takes all of them.
    Law: `parse_quantity(format_quantity(x))` is within 0.5 % of `x` for every `x >= 1`.
    Raises: QuantityError, also for "1G" seconds or "20ms" of FLOPs.
    """
    match = _PATTERN.match(text)
    scales, write = _scales(unit)
    if match is None or match[2] not in scales:
        raise QuantityError(f"{text!r} is not a quantity{unit and f' in {unit}'}: write a number with one of {write}")
    value = float(match[1].replace("_", "")) * scales[match[2]]
    if value <= 0:
        raise QuantityError(f"{text!r} is not above zero: a limit must be a positive quantity, for example 1G")
    return value


def _scales(unit: str) -> tuple[dict[str, float], str]:
    """The suffixes that a unit allows, and how they are named in an error."""
    if unit.startswith("seconds"):
        return {"": 1.0} | _SECONDS, "s, ms, us"
    if unit.startswith("bytes"):
        return _SCALES | _BYTES, "kB, MB, GB, MiB, GiB"
    if unit:
        return _SCALES, "k, M, G, T (1G = 1e9)"
    return _SCALES | _SECONDS | _BYTES, "k, M, G, T (1G = 1e9) or s, ms, us, kB, MB, GB, MiB, GiB"


def format_quantity(value: float) -> str:
    """Write a count with four significant digits and a scale: 66984194 -> "66.98M"."""
    for scale, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.4g}{suffix}"
    return f"{value:.4g}"


def format_cost(value: float, unit: str) -> str:
    """Write a cost in its unit: seconds as "12.3ms", bytes as "301.2MB", counts as `format_quantity` does."""
    if unit.startswith("seconds"):
        return f"{value:.4g}s" if value >= 1 else f"{1e3 * value:.4g}ms"
    if unit.startswith("bytes"):
        return f"{format_quantity(value).replace('k', 'K')}B"
    return format_quantity(value)
