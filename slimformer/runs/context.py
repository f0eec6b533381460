"""The inputs that the steps of a run share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from slimformer import checkpoints
from slimformer.axes.space import Space
from slimformer.backbones.base import backbone_for
from slimformer.files import reading
from slimformer.progress import Report
from slimformer.recipe.schema import Recipe
from slimformer.runs.folder import RunFolder
from slimformer.runs.load import from_recipe
from slimformer.runs.metrics_log import MetricsLog, write_environment
from slimformer.runs.ratings import Ratings
from slimformer.runs.recipe_file import begin
from slimformer.runs.reuse import take_over
from slimformer.runs.sources import check_sources, note_sources
from slimformer.supernet.network import SuperNet
from slimformer.tasks.base import TaskData
from slimformer.training.processes import Processes

T = TypeVar("T")


@dataclass(frozen=True)
class RunContext:
    """The recipe, folder and data of a run.

    checkpoint: where the pretrained weights are, as transformers loads them.
    finished: the steps that were complete when the run was opened.
    """

    recipe: Recipe
    folder: RunFolder
    report: Report
    processes: Processes
    checkpoint: str
    data: TaskData
    ratings: Ratings
    finished: frozenset[str]

    def once(self, step: str, make: Callable[[], T], read: Callable[[], T]) -> T:
        """The outcome of a step: read back if it was finished before, else made (and saved) by `make`."""
        return read() if step in self.finished else make()

    def load(self, source: str) -> SuperNet:
        """A super-network from a checkpoint, on this process's device."""
        torch.manual_seed(self.recipe.seed)
        model = self.recipe.task.load_model(source, self.recipe.model.attention)
        return SuperNet(model, backbone_for(model, self.recipe.model.backbones).topology(model)).to(self.processes.device)

    def reload(self, snapshot: str) -> SuperNet:
        """The super-network of a point of the run, "base" or a stage's name, as this run saved it."""
        with reading(self.folder.model(snapshot)):
            return self.load(str(self.folder.model(snapshot)))

    def space(self, supernet: SuperNet) -> Space:
        return self.recipe.space.to_space(supernet.topology)


def open_run(recipe: Recipe, folder: RunFolder, report: Report, start: RunFolder | None) -> RunContext:
    """Begin or continue a run: make its folder, find the weights and load the data.

    start: another run, whose finished steps are copied as far as both recipes make them alike.
    Raises: RunError where the folder holds another run, or a file that the run has read has changed.
    """
    processes, taken = Processes(), ""
    with processes.first_only() as first:
        if first:
            begin(folder, recipe)
            if not folder.is_untouched():
                check_sources(folder)
            write_environment(folder)
            note_sources(recipe, folder)
            if start:
                check_sources(start)
                taken = take_over(recipe, folder, start)
    source = checkpoints.resolve(recipe.model.checkpoint, recipe.model.fallback, recipe.model.sha256)
    report.say(f"run folder {folder.path}")
    if taken:
        report.say(taken)
    with from_recipe(recipe.model.checkpoint):
        data = recipe.task.load(source)
    sizes = ", ".join(f"{name} {len(split)}" for name, split in data.evaluation.items())
    report.say(f"data: train {len(data.train)}, calibration {len(data.calibration)}, {sizes} examples")
    log = MetricsLog(folder, report, processes)
    return RunContext(recipe, folder, log, processes, source, data, Ratings(folder), frozenset(folder.done()))
