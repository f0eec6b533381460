"""Plan of a run: sizes, steps and costs, for `slimformer run --dry-run`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from slimformer import checkpoints
from slimformer.axes.space import check_divisible
from slimformer.backbones.base import backbone_for
from slimformer.recipe.schema import Recipe
from slimformer.recipe.table import to_table
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import from_recipe
from slimformer.runs.preflight import check_head_is_trained, check_lengths, check_scoring_examples, coinciding, recipe_pricers
from slimformer.runs.reuse import shared_steps
from slimformer.supernet.network import SuperNet
from slimformer.supernet.topology import indivisible_axes
from slimformer.tasks.base import TaskData


@dataclass(frozen=True)
class RunPlan:
    """What a run would do.

    taken_over: the finished steps of another run that it would begin with; None where no other run is named.
    model: the class of the model.
    train, calibration, evaluation: numbers of examples.
    steps: optimizer steps of the fine-tuning and each stage.
    costs: of the largest and the smallest sub-network.
    stays_whole: axes along which nothing can be left out -> the reason.
    coinciding: lines that name points of the grid which are the same sub-network.
    classes: a line for each class of the task, with its number of examples and one of them, where the task has classes.
    """

    folder: str
    model: str
    train: int
    calibration: int
    evaluation: Mapping[str, int]
    num_subnets: int
    steps: Mapping[str, int]
    costs: Mapping[str, Mapping[str, float]]
    recipe: Mapping[str, object]
    taken_over: tuple[str, ...] | None = None
    stays_whole: Mapping[str, str] = field(default_factory=dict)
    coinciding: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The plan as --json prints it."""
        return {
            "run folder": self.folder,
            **({} if self.taken_over is None else {"taken over": list(self.taken_over)}),
            "model": self.model,
            "train examples": self.train,
            "calibration examples": self.calibration,
            **({"classes": list(self.classes)} if self.classes else {}),
            "evaluation": dict(self.evaluation),
            "sub-networks": self.num_subnets,
            **({"stays whole": dict(self.stays_whole)} if self.stays_whole else {}),
            **({"coinciding": list(self.coinciding)} if self.coinciding else {}),
            "optimizer steps": dict(self.steps),
            "costs": {name: dict(found) for name, found in self.costs.items()},
            "recipe": dict(self.recipe),
        }

    def lines(self) -> list[str]:
        """The plan for people, without the recipe."""
        return [f"{name}: {value}" for name, value in self.to_json().items() if name != "recipe"]


def plan(recipe: Recipe, folder: RunFolder, start: RunFolder | None = None) -> RunPlan:
    """Plan a run by loading weights and data but training nothing.

    start: another run, whose finished steps it would begin with.
    Raises: the errors of loading, of the space and of the checks before a run.
    """
    taken_over = shared_steps(recipe, start)[0] if start else None
    source = checkpoints.resolve(recipe.model.checkpoint, recipe.model.fallback, recipe.model.sha256)
    with from_recipe(recipe.model.checkpoint):
        data = recipe.task.load(source)
        model = recipe.task.load_model(source, recipe.model.attention)
    supernet = SuperNet(model, backbone_for(model, recipe.model.backbones).topology(model))
    space = recipe.space.to_space(supernet.topology)
    check_divisible(space)
    check_head_is_trained(recipe, model, source)
    check_lengths(supernet, data)
    check_scoring_examples(recipe, data)
    pricers = recipe_pricers(supernet, recipe, measured=None)
    corners = {point.name: {n: p(point.spec) for n, p in pricers.items()} for point in (space.largest(), space.smallest())}
    return RunPlan(
        folder=str(folder.path),
        model=type(model).__name__,
        train=len(data.train),
        calibration=len(data.calibration),
        evaluation={name: len(split) for name, split in data.evaluation.items()},
        num_subnets=len(space.points()),
        steps=_steps(recipe, data),
        costs=corners,
        recipe=to_table(recipe),
        taken_over=taken_over,
        stays_whole=indivisible_axes(supernet.topology),
        coinciding=tuple(coinciding(space)),
        classes=_classes(data),
    )


def _steps(recipe: Recipe, data: TaskData) -> dict[str, int]:
    """Optimizer steps of the fine-tuning and each stage."""
    per_step = recipe.machine.batch_size * recipe.machine.gradient_accumulation
    stages = {"finetune": ("train", recipe.finetune)} | {stage.name: (stage.examples, stage.training) for stage in recipe.stage}
    return {
        name: training.max_steps or math.ceil(math.ceil(len(data.training(examples).train) / per_step) * training.epochs)
        for name, (examples, training) in stages.items()
    }


def _classes(data: TaskData) -> tuple[str, ...]:
    return tuple(map(str, getattr(data, "classes", ())))
