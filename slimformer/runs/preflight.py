"""Checks before a run starts, so that errors which the model and the data show come before any training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from slimformer.axes.space import Space, check_divisible
from slimformer.backbones.base import backbone_for
from slimformer.costs.base import Pricer
from slimformer.costs.prices import pricers
from slimformer.errors import DataError
from slimformer.recipe.schema import Recipe, StageTable
from slimformer.runs.finite import check_weights
from slimformer.supernet.forward import forward
from slimformer.supernet.network import SuperNet
from slimformer.supernet.outputs import Outputs, to_device, without_labels
from slimformer.supernet.spec import SubnetSpec
from slimformer.tasks.base import Example, TaskData
from slimformer.tasks.evaluation import tokens_in
from slimformer.tasks.head import check_head
from slimformer.testing.cases import TOLERANCES
from slimformer.testing.verification import verify
from slimformer.training import trainer
from slimformer.training.step import follow_spec

LEEWAY = 10
"""Real weights have larger float errors than the tiny models for which the tolerances of the laws are stated."""


def recipe_pricers(supernet: SuperNet, recipe: Recipe, measured: Path | None) -> dict[str, Pricer]:
    """The cost functions that a recipe asks for, ready for one super-network; `measured` as for `pricers`."""
    backbone = backbone_for(supernet.model, recipe.model.backbones)
    return pricers(supernet, backbone, recipe.evaluation.costs, recipe.evaluation.workload, measured)


def try_terms(supernet: SuperNet, data: TaskData, spec: SubnetSpec, stage: StageTable) -> None:
    """Compute a stage's loss terms once, on two examples: terms that do not fit the model's outputs raise their errors."""
    batch = to_device(data.collate(_two(data.train)), next(supernet.parameters()).device)

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


def check_before_training(recipe: Recipe, supernet: SuperNet, data: TaskData, checkpoint: str) -> None:
    """Raise the errors that only the model and the data show, before anything is trained.

    Raises: CheckpointError, DataError, RunError, SpaceError, TopologyError, WorkloadError.
    """
    trainer.check_trackers(recipe.machine)
    check_head_is_trained(recipe, supernet.model, checkpoint)
    check_weights(supernet.model, "before training")
    check_lengths(supernet, data)
    check_scoring_examples(recipe, data)
    space = recipe.space.to_space(supernet.topology)
    check_divisible(space)
    check_laws(supernet, data)
    for stage in recipe.stage:
        data.training(stage.examples)
        try_terms(supernet, data, space.restrict(stage.axes).smallest().spec, stage)
    recipe_pricers(supernet, recipe, measured=None)


def check_head_is_trained(recipe: Recipe, model: nn.Module, checkpoint: str) -> None:
    """Check that a model that the recipe does not fine-tune has a trained head for the task.

    Raises: CheckpointError.
    """
    if not recipe.finetune.epochs and not recipe.finetune.max_steps:
        check_head(model, checkpoint)


def check_scoring_examples(recipe: Recipe, data: TaskData) -> None:
    """Check that a scorer that reads data has examples.

    Raises: DataError.
    """
    table = recipe.importance
    if len(data.scoring_examples(table.split)) == 0 and table.scorer.needs_data:
        raise DataError(
            f"importance is scored on {table.split}, which has no examples: give the task a larger calibration_size, "
            "or set importance.split or an importance.scorer that reads no data"
        )


def check_laws(supernet: SuperNet, data: TaskData) -> None:
    """Verify laws 1 to 4 on two examples of the task (`slimformer.testing.verify`).

    Raises: TopologyError naming the law that does not hold.
    """
    batch = without_labels(data.collate(_two(data.train)))
    dtype = next(supernet.model.parameters()).dtype
    with torch.random.fork_rng():
        verify(supernet, batch, tolerance=LEEWAY * TOLERANCES.get(dtype, TOLERANCES[torch.float32]))


def coinciding(space: Space) -> list[str]:
    """Lines that name the grid points which round to one and the same sub-network, of which the first one is kept."""
    names: dict[SubnetSpec, list[str]] = {}
    for ratios in itertools.product(*(axis.ratios for axis in space.axes)):
        point = space.point({axis.name: ratio for axis, ratio in zip(space.axes, ratios, strict=True)})
        names.setdefault(point.spec, []).append(point.name)
    return [f"{' and '.join(same)} are the same sub-network" for same in names.values() if len(same) > 1]


def _two(examples: Sequence[Example]) -> list[Example]:
    return [examples[i] for i in range(min(2, len(examples)))]
