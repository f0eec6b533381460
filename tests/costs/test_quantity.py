"""Quantities as people write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from slimformer.costs import QuantityError, format_quantity, parse_quantity


@given(st.floats(1, 1e15))
def test_what_is_formatted_reads_back_within_half_a_percent(value) -> None:
    assert parse_quantity(format_quantity(value)) == pytest.approx(value, rel=0.005)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1G", 1e9), ("66.9M", 66.9e6), ("20ms", 0.02), ("3us", 3e-6), ("2s", 2.0), ("1e9", 1e9), ("1_000", 1000.0),
     (" 5 k ", 5e3), ("5K", 5e3), (".5T", 0.5e12), ("7B", 7e9), ("12", 12.0)],
)  # fmt: skip
def test_these_texts_are_quantities(text, value) -> None:
    assert parse_quantity(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["1X", "", "G", "-1G", "1 2", "1..2", "nan", "inf", "one"])
def test_other_texts_are_named_in_the_error(text) -> None:
    with pytest.raises(QuantityError, match="is not a quantity: write a number") as error:
        parse_quantity(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "unit", "write"),
    [("1G", "seconds", "s, ms, us"), ("20ms", "FLOPs", "k, M, G, T (1G = 1e9)"), ("20ms", "bytes of weights", "kB, MB, GB"), ("1MB", "FLOPs", "k")],
)  # fmt: skip
def test_a_suffix_of_another_unit_is_an_error_that_says_which_to_write(text, unit, write) -> None:
    with pytest.raises(QuantityError, match=f"is not a quantity in {unit}: write a number with one of {re.escape(write)}"):
        parse_quantity(text, unit)


@pytest.mark.parametrize(("text", "unit", "value"), [("20ms", "seconds", 0.02), ("300M", "bytes", 3e8), ("1G", "FLOPs", 1e9)])
def test_a_suffix_of_the_unit_is_read(text, unit, value) -> None:
    assert parse_quantity(text, unit) == pytest.approx(value)


@pytest.mark.parametrize("text", ["0", "0G", "0.0ms"])
def test_zero_is_not_a_limit(text) -> None:
    with pytest.raises(QuantityError, match="must be a positive quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("value", "text"), [(66_984_194, "66.98M"), (22.347e9, "22.35G"), (1000, "1k"), (999, "999"), (0.25, "0.25"), (2e12, "2T")]
)
def test_counts_are_written_with_four_digits(value, text) -> None:
    assert format_quantity(value) == text
