"""Registries: name -> component class, filled by plugins through entry points.

A component is a frozen dataclass whose fields are its options, so that `FirstOrder(reduction="sum_of_abs")` in Python
is `{ name = "first_order", reduction = "sum_of_abs" }` in a recipe. Modules that hold components import torch inside
functions, so that listing the components and checking a recipe stay instant.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Generic, TypeVar, get_args

from pydantic import Field

from slimformer.errors import UnknownComponentError

T = TypeVar("T")
C = TypeVar("C", bound=type)

REGISTRIES: dict[str, Registry[Any]] = {}
"""Every registry by its plural name, for `slimformer list`."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""The form of a component's name: it stands in recipes, on the command line and in tables."""

Count = Annotated[int, Field(ge=0)]
"""A whole number of 0 or more; in the options that document it, 0 means all."""
Positive = Annotated[int, Field(ge=1)]
"""A whole number of 1 or more."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A whole number that starts a random generator."""
Weight = Annotated[float, Field(ge=0)]
"""A factor of 0 or more."""
Name = Annotated[str, Field(min_length=1)]
"""A text that is not empty."""


class Registry(Generic[T]):
    """The components of one kind, by name.

    Law: `registry.build(registry.describe(c)) == c` for every component `c` made of plain option values.

    kind: the name of one component in messages, for example "loss term".
    plural: the name of the registry, for example "terms".
    requires: the class attributes, options or methods that every component has.

    Raises: TypeError if another registry with components has that plural.

    ```python
    from slimformer.importance import SCORERS, FirstOrder
    assert SCORERS.build({"name": "first_order", "reduction": "sum_of_abs"}) == FirstOrder("sum_of_abs")
    ```
    """

    def __init__(self, kind: str, plural: str, requires: tuple[str, ...] = ()) -> None:
        if plural in REGISTRIES and REGISTRIES[plural].names():
            raise TypeError(f"there is a registry {plural!r} already: choose another plural")
        self.kind = kind
        self.plural = plural
        self.requires = requires
        self._classes: dict[str, type] = {}
        REGISTRIES[plural] = self

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator: make a frozen dataclass known under `name`; registering the same class again is harmless.

        Raises: TypeError for a class that is no dataclass or lacks what every component of the kind has, and for a name
            that another class has.
        """

        def add(cls: C) -> C:
            self._check(name, cls)
            cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
            self._classes[name] = cls
            return cls

        return add

    def _check(self, name: object, cls: type) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise TypeError(f"a {self.kind} cannot be called {name!r}: write letters, digits, '_', '-' and '.'")
        if not isinstance(cls, type) or not dataclasses.is_dataclass(cls):
            shown = getattr(cls, "__qualname__", repr(cls))
            raise TypeError(f"{shown} must be a dataclass to be a {self.kind}: its fields are its options")
        options = {field.name for field in dataclasses.fields(cls)}
        if "name" in options:
            raise TypeError(f"{cls.__qualname__}: no option can be called 'name', which chooses the {self.kind} in a recipe")
        members = options.union(*(vars(base) for base in cls.__mro__))
        missing = [member for member in self.requires if member not in members]
        if missing:
            raise TypeError(f"{cls.__qualname__} lacks {', '.join(missing)}, which every {self.kind} has")
        known = self._classes.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{self.kind} {name!r} is registered twice: {known.__module__} and {cls.__module__}")

    def forget(self, name: str) -> None:
        """Remove a component, as for a plugin that failed after registering it."""
        self._classes.pop(name, None)

    def names(self) -> tuple[str, ...]:
        """The names of all components, sorted."""
        return tuple(sorted(self._classes))

    def __contains__(self, name: object) -> bool:
        return name in self._classes

    def __iter__(self) -> Iterator[tuple[str, type]]:
        return iter(sorted(self._classes.items()))

    def get(self, name: str) -> type[T]:
        """The class registered as `name`.

        Raises: UnknownComponentError, naming the nearest names.
        """
        try:
            return self._classes[name]
        except KeyError:
            raise UnknownComponentError(self.unknown(name)) from None

    def unknown(self, name: object) -> str:
        """The error message for a name that no component has, with the nearest name and all names."""
        close = difflib.get_close_matches(str(name), self._classes, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"no {self.kind} is called {name!r}.{hint} There are: {', '.join(self.names()) or 'none'}"

    def summary(self, name: str) -> str:
        """The first line of the component's docstring; empty if it has none."""
        return next(iter((self.get(name).__doc__ or "").strip().splitlines()), "")

    def name_of(self, component: object) -> str:
        """The name under which a component's class is registered."""
        for name, cls in self._classes.items():
            if type(component) is cls:
                return name
        raise UnknownComponentError(
            f"{type(component).__qualname__} is not a registered {self.kind}: decorate it with @{self.plural}.register"
        )

    def build(self, table: Mapping[str, Any] | str) -> T:
        """A component from `{"name": ..., **options}` or from its bare name, with the defaults for the rest."""
        options = {"name": table} if isinstance(table, str) else dict(table)
        return self.get(str(options.pop("name", "")))(**options)

    def describe(self, component: T) -> dict[str, Any]:
        """The table `{"name": ..., **options}` from which `build` makes an equal component."""
        fields = dataclasses.fields(component)  # type: ignore[arg-type]
        return {"name": self.name_of(component)} | {f.name: getattr(component, f.name) for f in fields}

    @staticmethod
    def of(field: Any) -> Registry[Any] | None:
        """The registry that a pydantic field's annotation names, directly or for each item of a tuple."""
        metadata = list(field.metadata)
        for argument in get_args(field.annotation):
            metadata += getattr(argument, "__metadata__", ())
        return next((item for item in metadata if isinstance(item, Registry)), None)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Validate a recipe's table by the fields of the component that it names (`Annotated[Scorer, SCORERS]`)."""
        from pydantic_core import core_schema

        def by_name(cls: type) -> Any:
            def drop_name(value: Any) -> Any:
                return {k: v for k, v in value.items() if k != "name"} if isinstance(value, Mapping) else value

            return core_schema.no_info_before_validator_function(drop_name, handler.generate_schema(cls))

        def tag(value: Any) -> Any:
            return value.get("name") if isinstance(value, Mapping) else self._tag_of(value)

        def table_of(value: Any) -> Any:
            return {"name": value} if isinstance(value, str) else value

        choices = {name: by_name(cls) for name, cls in self}
        if not choices:
            return core_schema.no_info_plain_validator_function(self.build)
        return core_schema.no_info_before_validator_function(table_of, core_schema.tagged_union_schema(choices, tag))

    def _tag_of(self, component: object) -> str | None:
        return next((name for name, cls in self._classes.items() if type(component) is cls), None)
