"""The schema of recipes: the tables and keys of a TOML file that describes a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from slimformer.axes.base import AXES, DEPTH_POLICIES, Axis, DepthPolicy, Ratio
from slimformer.axes.space import Space
from slimformer.backbones.base import BACKBONES, Backbone
from slimformer.costs.base import COSTS, Workload
from slimformer.distillation.base import TERMS, Term
from slimformer.distillation.samplers import SAMPLERS, Every, Sampler
from slimformer.distillation.schedules import SCHEDULES, Schedule
from slimformer.importance.base import SCORERS, Scorer
from slimformer.importance.first_order import FirstOrder
from slimformer.recipe.location import Location
from slimformer.registry import Name, Seed
from slimformer.rewiring import PASSES, Pass, Sort
from slimformer.search.choices import BlockRule, Choices
from slimformer.supernet.topology import Topology
from slimformer.tasks.base import TASKS, Task
from slimformer.training.options import Machine, Optimisation

LONGEST_NAME = 100
"""Characters of a name that becomes a folder: a recipe's or a stage's."""


def _ratios_of(table: object) -> object:
    """The table of [space] with each `AXIS = "default"` replaced by the ratios of the registered axis."""
    if not isinstance(table, dict):
        return table
    named = {name: ratios for name, ratios in table.items() if ratios == "default" and name in AXES}
    return table | {name: list(AXES.build(name).ratios) for name in named}


class Table(BaseModel):
    """A table of a recipe: unknown keys are errors, and the schema is built when the plugins are known."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, defer_build=True)


class ModelTable(Table):
    """[model]: where the pretrained weights come from.

    checkpoint: a hub name, a folder, or "package:DISTRIBUTION/FOLDER", files that an installed package carries; "new:" before
        it takes the configuration alone and draws new weights.
    fallback: another checkpoint, for when the first cannot be had. sha256: the hash that a file must have, by its name.
    backbones: who may describe the model, by default every backbone there is; with options, for example
        `[{ name = "bert", hidden = true }]`, which adds the axis "hidden".
    attention: the implementation; "auto" is sdpa where the model has it, else eager.
    """

    checkpoint: Name
    fallback: str = ""
    sha256: dict[str, str] = Field(default_factory=dict)
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    backbones: tuple[Annotated[Backbone, BACKBONES], ...] = ()


class SpaceTable(Table):
    """[space]: the ratios of each elastic axis, and the rule that picks the blocks which a depth ratio keeps.

    AXIS: a list of ratios, for example `width = [1.0, 0.5]`, or "default" for those of the registered axis.
    depth_policy: a depth policy.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[list[Ratio], Field(min_length=1)]]
    depth_policy: Annotated[DepthPolicy, DEPTH_POLICIES] = Field(default_factory=lambda: DEPTH_POLICIES.build("keep_last"))

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(Axis(name, tuple(ratios)) for name, ratios in self.__pydantic_extra__.items())

    _defaults = model_validator(mode="before")(_ratios_of)

    def to_space(self, topology: Topology) -> Space:
        """The space of one model.

        Raises: SpaceError where the model does not have these axes.
        """
        return Space(topology, self.axes, self.depth_policy)

    def on(self, topology: Topology) -> Space:
        """The former name of `to_space`."""
        return self.to_space(topology)


class ImportanceTable(Table):
    """[importance]: the scorer of the units, and the examples it reads.

    split: "calibration" is a held-out part of the training data; an evaluation split (or "evaluation", which is all of
        them) leaks into the model.
    max_examples: 0 for all of the split.
    """

    scorer: Annotated[Scorer, SCORERS] = FirstOrder()
    split: str = "calibration"
    batch_size: Annotated[int, Field(ge=1)] = 16
    max_examples: Annotated[int, Field(ge=0)] = 0


def _in_a_list(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


class StageTable(Table):
    """[[stage]]: one stage of training.

    axes: what is elastic in it. teacher: "base" (the fine-tuned model), the name of an earlier stage, or "largest" (the
    largest sub-network of the very step). follow: the axes on which the teacher is as small as the student. examples: the
    set it trains on, "train" or a further one that the task has (a text task's "augmented").
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=LONGEST_NAME)]
    axes: tuple[str, ...]
    teacher: str = "base"
    follow: tuple[str, ...] = ()
    sampler: Annotated[Sampler, SAMPLERS] = Every()
    terms: tuple[Annotated[Term, TERMS], ...]
    training: Optimisation = Optimisation()
    examples: str = "train"


class ScheduleTable(Table):
    """schedule: named lists of stages, which stand for the `[[stage]]` tables that they expand to."""

    schedule: Annotated[tuple[Annotated[Schedule, SCHEDULES], ...], BeforeValidator(_in_a_list), Field(min_length=1)]


class EvaluationTable(Table):
    """[evaluation]: which sub-networks are rated, when, and at which inputs their costs are stated.

    snapshots: at which points of the run every sub-network of the grid is rated, besides the last stage: "base" (the
    fine-tuned model merely sliced), "rewired" (sliced after rewiring), or a stage's name.
    """

    batch_size: Annotated[int, Field(ge=1)] = 64
    snapshots: tuple[str, ...] = ("base", "rewired")
    costs: Annotated[tuple[str, ...], Field(min_length=1)] = ("params", "flops", "macs")
    workload: Workload = Workload()


class SearchTable(Table):
    """[search]: the per-layer sub-networks among which a search of the finished run chooses.

    multiples: the step of the sizes of an axis, for example `multiples = { "width.ffn" = 64 }`; where none is given, the
        largest power of two that leaves at least 12 sizes.
    blocks: which blocks may remain: "any", "spread" (the sets of the depth policy, for every depth) or "prefix".
    """

    multiples: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    blocks: BlockRule = "any"

    def on(self, space: Space) -> Choices:
        """The choices around a run's grid.

        Raises: SpaceError where the model does not have an axis.
        """
        return Choices(space, self.multiples, self.blocks)


class Recipe(Table):
    """A whole run; the tables stand in the order in which things happen.

    plugins: Python files, from the recipe's folder, that define components which the recipe names.
    finetune: how the base model, the first teacher, is made from the checkpoint; epochs = 0 if it is fine-tuned already.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=LONGEST_NAME)]
    seed: Seed = 42
    plugins: tuple[str, ...] = ()
    model: ModelTable
    task: Annotated[Task, TASKS]
    space: SpaceTable
    finetune: Optimisation = Optimisation()
    importance: ImportanceTable = Field(default_factory=ImportanceTable)
    rewiring: Annotated[Pass, PASSES] = Sort()
    stage: tuple[StageTable, ...] = ()
    machine: Machine = Machine()
    evaluation: EvaluationTable = Field(default_factory=EvaluationTable)
    search: SearchTable = Field(default_factory=SearchTable)

    @classmethod
    def read(cls, path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe file.

        path: a TOML file.
        overrides: texts of the form "key.path=value", as those of `slimformer run --set`.
        Raises: RecipeError with a line for every mistake.

        ```python
        recipe = Recipe.read("recipes/quickstart.toml", ["seed=1", "finetune.epochs=2"])
        assert (recipe.seed, recipe.finetune.epochs) == (1, 2)
        ```
        """
        from slimformer.recipe.reader import read_recipe

        return read_recipe(Path(path), overrides)

    @property
    def snapshots(self) -> tuple[str, ...]:
        """The points of the run at which the grid is rated; the last one is the result."""
        order = ("base", "rewired", *(stage.name for stage in self.stage))
        return tuple(name for name in order if name in (*self.evaluation.snapshots, order[-1]))


STEPS = ("finetune", "rewiring", "rewired", "supernet")
"""Names of the run's own steps, besides "base" and "largest"; no stage may be called so."""


def contradictions(recipe: Recipe) -> list[tuple[Location, str]]:
    """List the mistakes of a recipe whose every value is right by itself: names that refer to nothing."""
    found: list[tuple[Location, str]] = []
    axes = [axis.name for axis in recipe.space.axes]
    if not axes:
        found.append((("space",), "no axis is elastic: write, for example, width = [1.0, 0.75, 0.5, 0.25]"))
    seen = ["base", "largest"]
    for index, stage in enumerate(recipe.stage):
        where: Location = ("stage", index)
        if stage.name in (*seen, *STEPS):
            found.append(((*where, "name"), f"{stage.name!r} is already the name of another step of the run: write another"))
        if stage.teacher not in seen:
            found.append(((*where, "teacher"), f"{stage.teacher!r} is no earlier stage; there are: {', '.join(seen)}"))
        if not stage.terms:
            found.append(((*where, "terms"), 'no loss term: write, for example, terms = [{ name = "soft_cross_entropy" }]'))
        for key in ("axes", "follow"):
            for axis in sorted(set(getattr(stage, key)) - set(axes)):
                found.append(((*where, key), f"{axis!r} is not an axis of [space], which has: {', '.join(axes)}"))
        seen.append(stage.name)
    points = ("base", "rewired", *(stage.name for stage in recipe.stage))
    for snapshot in recipe.evaluation.snapshots:
        if snapshot not in points:
            what = f"{snapshot!r} is no point of the run; there are: {', '.join(points)}"
            found.append((("evaluation", "snapshots"), what))
    for cost in recipe.evaluation.costs:
        if cost not in COSTS.names():
            found.append((("evaluation", "costs"), COSTS.unknown(cost)))
    return found
