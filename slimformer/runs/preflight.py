"""Checks before a run starts: what would fail later fails here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from slimformer import checkpoints
from slimformer.axes.space import check_divisible
from slimformer.backbones.base import backbone_for
from slimformer.costs.base import Pricer
from slimformer.costs.prices import pricers
from slimformer.recipe.schema import Recipe, StageTable
from slimformer.recipe.table import to_table
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import from_recipe
from slimformer.runs.reuse import shared_steps
from slimformer.supernet.forward import forward
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Outputs, to_device
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import indivisible_axes
from slimformer.tasks.base import TaskData
from slimformer.tasks.evaluation import tokens_in
from slimformer.training.step import follow_spec


def recipe_pricers(supernet: SuperNet, recipe: Recipe, measured: Path | None) -> dict[str, Pricer]:
    """The cost functions that a recipe asks for, ready for one super-network; `measured` as for `pricers`."""
    backbone = backbone_for(supernet.model, recipe.model.backbones)
    return pricers(supernet, backbone, recipe.evaluation.costs, recipe.evaluation.workload, measured)


def try_terms(supernet: SuperNet, data: TaskData, spec: SubnetSpec, stage: StageTable) -> None:
    """Compute a stage's loss terms once, on two examples: terms that do not fit the model's outputs raise their errors."""
    batch = to_device(data.collate([data.train[i] for i in range(min(2, len(data.train)))]), next(supernet.parameters()).device)

    def run(spec: SubnetSpec) -> Outputs:
        with torch.no_grad():
            return forward(supernet.frozen(spec), supernet.topology, spec, batch, hidden=True, labels=True)

    student, teacher = run(spec), run(follow_spec(supernet.topology, spec, stage.follow))
    for term in stage.terms:
        term(student, teacher, batch)


def check_lengths(supernet: SuperNet, data: TaskData) -> None:
    """Check that the model takes the longest example of every split, padded as the task pads.

    Raises: WorkloadError.
    """
    backbone = backbone_for(supernet.model)
    for split in (data.train, data.calibration, *data.evaluation.values()):
        longest = max(split, key=tokens_in, default={})
        if tokens_in(longest):
            backbone.example(supernet.model, 1, data.collate([longest])["input_ids"].shape[1])


def plan(recipe: Recipe, folder: RunFolder, start: RunFolder | None = None) -> dict[str, Any]:
    """What a run would do: sizes, steps and costs, found by loading weights and data but training nothing.

    start: another run, whose finished steps it would begin with.
    """
    shared = {"taken over": list(shared_steps(recipe, start)[0])} if start else {}
    source = checkpoints.resolve(recipe.model.checkpoint, recipe.model.fallback, recipe.model.sha256)
    with from_recipe(recipe.model.checkpoint):
        data = recipe.task.load(source)
        model = recipe.task.load_model(source, recipe.model.attention)
    supernet = SuperNet(model, backbone_for(model, recipe.model.backbones).topology(model))
    space = recipe.space.on(supernet.topology)
    check_divisible(space)
    check_lengths(supernet, data)
    pricers = recipe_pricers(supernet, recipe, measured=None)
    per_step = recipe.machine.batch_size * recipe.machine.gradient_accumulation
    stages = {"finetune": ("train", recipe.finetune)} | {stage.name: (stage.examples, stage.training) for stage in recipe.stage}
    steps = {
        name: training.max_steps or math.ceil(math.ceil(len(data.training(examples).train) / per_step) * training.epochs)
        for name, (examples, training) in stages.items()
    }
    whole = indivisible_axes(supernet.topology)
    corners = {point.name: {n: p(point.spec) for n, p in pricers.items()} for point in (space.largest(), space.smallest())}
    return {
        "run folder": str(folder.path),
        **shared,
        "model": type(model).__name__,
        "train examples": len(data.train),
        "calibration examples": len(data.calibration),
        "evaluation": {name: len(split) for name, split in data.evaluation.items()},
        "sub-networks": len(space.points()),
        **({"stays whole": whole} if whole else {}),
        "optimizer steps": steps,
        "costs": corners,
        "recipe": to_table(recipe),
    }
