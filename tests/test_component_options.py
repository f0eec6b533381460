"""Options in words: the type, default and meaning of each field of a component."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from slimformer import load_plugins
from slimformer.cli.components import list_components
from slimformer.component_options import Option, in_toml, option_lines, options_of, type_in_words
from slimformer.registry import REGISTRIES, Count, Name, Weight


@dataclass(frozen=True)
class Toy:
    """A toy.

    size: how large it is,
        in centimetres.
    colours, shapes: what it comes in. kind: "soft" or
        "hard".

    kind: text of another paragraph is a meaning too, the later one.
    """

    size: Count = 3
    colours: tuple[str, ...] = ("red",)
    shapes: tuple[str, ...] = ()
    kind: Literal["soft", "hard"] = "soft"
    parts: dict[str, object] = field(default_factory=dict)
    owner: Name = field(kw_only=True)


def test_options_come_in_the_order_of_the_fields_with_type_default_and_meaning() -> None:
    assert options_of(Toy)[:3] == (
        Option("size", "whole number, 0 or more", "3", "how large it is, in centimetres."),
        Option("colours", "list of text", '["red"]', "what it comes in."),
        Option("shapes", "list of text", "[]", "what it comes in."),
    )
    assert options_of(Toy)[3].type == '"soft" | "hard"'
    assert options_of(Toy)[4] == Option("parts", "table", "{}", "")
    assert options_of(Toy)[5].default == "required"


def test_a_meaning_ends_at_an_empty_line() -> None:
    assert option_lines("X.\n\nsize: how large.\n\nMore text.", ["size"]) == {"size": "how large."}


def test_a_word_inside_a_sentence_is_no_option() -> None:
    assert option_lines("The size: a number that says how large it is.", ["size"]) == {}


@pytest.mark.parametrize(
    ("hint", "words"),
    [(bool, "true or false"), (float, "number"), (Weight, "number, 0 or more"), (int | str, "whole number or text")],
)
def test_a_type_is_said_in_the_words_of_a_recipe(hint, words) -> None:
    assert type_in_words(hint) == words


@pytest.mark.parametrize("value", [True, 3, 0.5, 'a "quoted" \\ text\n', ["a", 1], {"a": [1.0], "b": {"c": "d"}}])
def test_a_default_is_written_as_toml_reads_it(value) -> None:
    import tomllib

    assert tomllib.loads(f"value = {in_toml(value)}")["value"] == value


def test_every_option_of_every_component_of_the_core_has_a_meaning() -> None:
    load_plugins()
    own = [
        (plural, name, option.name)
        for plural, registry in REGISTRIES.items()
        for name, cls in registry
        if cls.__module__.startswith("slimformer.")
        for option in options_of(cls)
        if not option.meaning
    ]
    assert own == []


def test_list_in_json_keeps_its_shape_and_has_the_options_on_request(capsys) -> None:
    list_components("samplers", as_json=True)
    assert set(json.loads(capsys.readouterr().out)["samplers"]) >= {"every", "sandwich"}
    list_components("samplers", options=True, as_json=True)
    sandwich = json.loads(capsys.readouterr().out)["samplers"]["sandwich"]
    assert sandwich["options"]["num_random"]["default"] == "2"
    assert sandwich["options"]["num_random"]["type"] == "whole number, 0 or more"
    assert sandwich["summary"].startswith("The largest, some random")


def test_list_shows_a_line_for_each_option(capsys) -> None:
    list_components("samplers")
    shown = capsys.readouterr().out
    assert "num_random = 2  whole number, 0 or more" in shown


def test_list_has_axes_and_schedules() -> None:
    load_plugins()
    assert {"width", "depth", "hidden"} <= set(REGISTRIES["axes"].names())
    assert {"dynabert", "one_stage"} <= set(REGISTRIES["schedules"].names())
