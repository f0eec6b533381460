"""Describe the options of a component for people: the type, default and meaning of each field of its dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Option:
    """An option of a component.

    name: its key in a recipe.
    type: the values it takes, in words.
    default: its value where the recipe gives none, as TOML writes it; "required" if there is no default.
    meaning: the sentence that the component's docstring gives it; empty if there is none.
    """

    name: str
    type: str
    default: str
    meaning: str


def options_of(cls: type) -> tuple[Option, ...]:
    """The options of a component's class, in the order of its fields.

    ```python
    from slimformer.component_options import options_of
    from slimformer.distillation import Sandwich
    (option,) = options_of(Sandwich)
    assert (option.name, option.type, option.default) == ("num_random", "whole number, 0 or more", "2")
    ```
    """
    fields = dataclasses.fields(cls)
    hints = _hints(cls)
    meanings = option_lines(cls.__doc__ or "", [field.name for field in fields])
    return tuple(
        Option(field.name, type_in_words(hints.get(field.name, field.type)), _default(field), meanings.get(field.name, ""))
        for field in fields
    )


def option_lines(docstring: str, names: Sequence[str]) -> dict[str, str]:
    """The meanings that a docstring gives to options: the text after "NAME: " at the start of a line or sentence.

    A meaning ends at the next option and at an empty line; "one, other: ..." gives both the same.
    """
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    if not known:
        return {}
    start = re.compile(rf"(?:(?<=\n)|(?<=[.;] ))(?P<names>(?:{known})(?:(?:, | and )(?:{known}))*)(?: over [a-z]+[^:]*)?: ?")
    text = "\n" + "\n".join(line.strip() for line in inspect.cleandoc(docstring).splitlines())
    found = list(start.finditer(text))
    meanings = {}
    ends = [*(match.start() for match in found[1:]), len(text)]
    for match, end in zip(found, ends, strict=False):
        body = text[match.end() : end].partition("\n\n")[0]
        for name in re.split(r", | and ", match["names"]):
            meanings[name] = " ".join(body.split()).rstrip(";")
    return meanings


def type_in_words(hint: object) -> str:
    """The values that an annotation allows, in the words of a recipe: "whole number", "list of text", ..."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_in_words(arguments[0]) + _bounds(arguments[1:])
    if origin is Literal:
        return " | ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(type_in_words(argument) for argument in arguments if argument is not type(None))
    if origin in (tuple, list, Sequence) or hint in (tuple, list):
        return f"list of {type_in_words(arguments[0])}" if arguments else "list"
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        return "table"
    words = {bool: "true or false", int: "whole number", float: "number", str: "text", object: "value"}
    plain = words.get(hint) if isinstance(hint, type) else None
    return plain or (hint.__name__ if isinstance(hint, type) else str(hint))


def _bounds(metadata: tuple[object, ...]) -> str:
    words = {"ge": "{} or more", "gt": "above {}", "le": "up to {}", "lt": "below {}"}
    inner = [item for part in metadata for item in (part, *getattr(part, "metadata", ()))]
    said = [word.format(getattr(item, key)) for item in inner for key, word in words.items() if hasattr(item, key)]
    return "".join(f", {text}" for text in said)


def _hints(cls: type) -> dict[str, object]:
    """The resolved annotations of a class; none where a name in them cannot be found."""
    try:
        return get_type_hints(cls, include_extras=True)
    except Exception:  # annotations are a stranger's expressions
        return {}


def _default(field: dataclasses.Field[object]) -> str:
    try:
        if field.default is not dataclasses.MISSING:
            return in_toml(field.default)
        return "required" if field.default_factory is dataclasses.MISSING else in_toml(field.default_factory())
    except Exception:  # a default is a stranger's object
        return "?"


def in_toml(value: object) -> str:
    """A plain value as a recipe writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {in_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(in_toml(item) for item in value) + "]"
    return repr(value) if isinstance(value, int | float) else str(value)
