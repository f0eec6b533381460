"""Replace the `[schedule]` of a recipe's table by the `[[stage]]` tables that it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from slimformer.distillation.schedules import Schedule
from slimformer.errors import RecipeError
from slimformer.recipe.diagnostics import explain
from slimformer.recipe.location import Location, Place
from slimformer.recipe.schema import ScheduleTable
from slimformer.recipe.source import Source, put_over

KEY = "schedule"


def expand_schedule(source: Source, place: Place) -> Source:
    """A recipe's table with the stages of its schedule spelled out; `[[stage]]` tables of the recipe itself follow them.

    `[stage.NAME]` tables are put over the schedule's stage of that name, or add one.
    Raises: RecipeError with a line for every mistake in `[schedule]`.
    """
    if KEY not in source.table:
        return source
    parts = _parts(source.table[KEY], place)
    table = {key: value for key, value in source.table.items() if key not in (KEY, "stage")}
    stages: list[dict[str, Any]] = []
    places: dict[Location, str] = {}
    for index, part in enumerate(parts):
        at: Location = (KEY, index) if isinstance(source.table[KEY], list) else (KEY,)
        for stage in part():
            places |= _places_of(source, at, ("stage", len(stages)))
            stages.append(plain(stage))
    own = source.table.get("stage", {})
    expanded = Source({**table, "stage": stages}, _without_stages(source) | places)
    return _with_own_stages(expanded, own, {at: said for at, said in source.places.items() if at[0] == "stage"})


def _parts(given: object, place: Place) -> tuple[Schedule, ...]:
    ScheduleTable.model_rebuild(force=True)
    try:
        return ScheduleTable.model_validate({KEY: given}).schedule
    except ValidationError as error:
        found = error.errors(include_url=False)
        if not isinstance(given, list):  # a single schedule is written without a position
            found = [{**item, "loc": (*item["loc"][:1], *item["loc"][2:])} for item in found]
        raise RecipeError("\n".join(explain(item, place) for item in found)) from None


def _places_of(source: Source, at: Location, stage: Location) -> dict[Location, str]:
    """The places of a stage's values: where its schedule, or the schedule's option of that name, was written."""
    inside = {where[len(at) :]: said for where, said in source.places.items() if where[: len(at)] == at}
    return {(*stage, *rest): said for rest, said in inside.items() if rest != ("name",)}


def _without_stages(source: Source) -> dict[Location, str]:
    return {at: said for at, said in source.places.items() if at[0] != "stage"}


def _with_own_stages(schedule: Source, own: object, places: Mapping[Location, str]) -> Source:
    """The schedule's stages with those that the recipe writes itself: tables by name, or a list that follows."""
    if isinstance(own, list):
        count = len(schedule.table["stage"])
        moved = {
            ("stage", at[1] + count, *at[2:]): said for at, said in places.items() if len(at) > 1 and isinstance(at[1], int)
        }
        written = places.get(("stage",))
        moved |= {("stage", index + count): written for index in range(len(own)) if written} | moved
        return Source({**schedule.table, "stage": [*schedule.table["stage"], *own]}, {**schedule.places, **moved})
    return put_over(schedule, {"stage": own}, places) if own else schedule


def plain(value: Any) -> Any:
    """Nested tables and lists as fresh dictionaries and lists, which overrides may write into."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
