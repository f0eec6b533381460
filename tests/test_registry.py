"""Registries: components by name, from tables, and as pydantic types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from slimformer.errors import UnknownComponentError
from slimformer.importance import SCORERS, FirstOrder, Magnitude, RandomScores, Scorer
from slimformer.registry import REGISTRIES, Registry


@pytest.fixture
def registry():
    yield Registry("toy", "toys")
    del REGISTRIES["toys"]


@dataclass(frozen=True)
class Ball:
    """A round toy.

    It rolls.
    """

    size: int = 3
    colours: tuple[str, ...] = ("red",)


def test_names_are_sorted(registry) -> None:
    registry.register("zebra")(Ball)
    registry.register("ball")(Ball)
    assert registry.names() == ("ball", "zebra")


@pytest.mark.parametrize("component", [Ball(), Ball(size=5), Ball(colours=("blue", "green"))])
def test_building_from_a_description_gives_an_equal_component(registry, component) -> None:
    registry.register("ball")(Ball)
    assert registry.build(registry.describe(component)) == component


def test_a_bare_name_builds_the_defaults(registry) -> None:
    registry.register("ball")(Ball)
    assert registry.build("ball") == Ball()


def test_a_description_holds_the_name_and_every_option(registry) -> None:
    registry.register("ball")(Ball)
    assert registry.describe(Ball(size=4)) == {"name": "ball", "size": 4, "colours": ("red",)}


def test_class_variables_are_not_options() -> None:
    assert SCORERS.describe(Magnitude()) == {"name": "magnitude"}


def test_an_unknown_name_gets_the_nearest_one(registry) -> None:
    registry.register("ball")(Ball)
    with pytest.raises(UnknownComponentError, match=r"no toy is called 'bal'\. Did you mean 'ball'\? There are: ball"):
        registry.build({"name": "bal"})


def test_a_name_far_from_any_gets_no_hint(registry) -> None:
    registry.register("ball")(Ball)
    with pytest.raises(UnknownComponentError, match=r"no toy is called 'xyz'\. There are: ball"):
        registry.get("xyz")


def test_an_empty_registry_says_so(registry) -> None:
    with pytest.raises(UnknownComponentError, match="There are: none"):
        registry.get("ball")


def test_a_class_that_is_no_dataclass_cannot_be_registered(registry) -> None:
    with pytest.raises(TypeError, match="must be a dataclass to be a toy: its fields are its options"):
        registry.register("plain")(type("Plain", (), {}))


def test_a_name_cannot_be_taken_by_another_class(registry) -> None:
    registry.register("ball")(Ball)
    with pytest.raises(TypeError, match="toy 'ball' is registered twice"):
        registry.register("ball")(RandomScores)


def test_registering_the_same_class_again_is_harmless(registry) -> None:
    assert registry.register("ball")(Ball) is registry.register("ball")(Ball)


def test_the_name_of_an_unregistered_component_is_refused(registry) -> None:
    with pytest.raises(UnknownComponentError, match=r"Ball is not a registered toy: decorate it with @toys.register"):
        registry.name_of(Ball())


def test_the_summary_is_the_first_line_of_the_docstring(registry) -> None:
    registry.register("ball")(Ball)
    assert registry.summary("ball") == "A round toy."


def test_every_registry_is_listed_under_its_plural(registry) -> None:
    assert REGISTRIES["toys"] is registry
    assert REGISTRIES["scorers"] is SCORERS


def test_every_component_of_every_registry_has_a_summary_and_is_frozen() -> None:
    for plural, registry in REGISTRIES.items():
        for name, cls in registry:
            assert len(registry.summary(name)) > 10, (plural, name)
            assert cls.__dataclass_params__.frozen, (plural, name)


@pytest.fixture
def adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[Scorer, SCORERS])


@pytest.mark.parametrize(
    ("table", "component"),
    [
        ("first_order", FirstOrder()),
        ({"name": "first_order", "reduction": "cumulative"}, FirstOrder("cumulative")),
        ({"name": "random", "seed": 4}, RandomScores(4)),
        (RandomScores(2), RandomScores(2)),
    ],
)
def test_pydantic_makes_components_of_tables_and_names(adapter, table, component) -> None:
    assert adapter.validate_python(table) == component


@pytest.mark.parametrize("component", [FirstOrder("sum_of_abs"), RandomScores(9), Magnitude()])
def test_pydantic_reads_what_describe_writes(adapter, component) -> None:
    assert adapter.validate_python(SCORERS.describe(component)) == component


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ({"name": "random", "sed": 4}, "sed"),
        ({"name": "first_order", "reduction": "mean"}, "abs_of_sum"),
        ({"name": "random", "seed": "four"}, "integer"),
        ({"name": "randon"}, "randon"),
        ({"seed": 4}, "tag"),
        ("randon", "randon"),
        (3, "tag"),
    ],
)
def test_pydantic_refuses_unknown_names_options_and_values(adapter, table, where) -> None:
    with pytest.raises(ValidationError, match=where):
        adapter.validate_python(table)
