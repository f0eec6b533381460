"""Metrics of sub-networks, kept in the run folder."""

from __future__ import annotations

from typing import Any

from slimformer.recipe.schema import Recipe
from slimformer.runs.folder import RunFolder
from slimformer.supernet.network import SuperNet
from slimformer.supernet.spec import SubnetSpec
from slimformer.tasks.evaluation import evaluate


class Rater:
    """Scores sub-networks of a finished run, each spec and split once; the data is loaded when the first score is needed."""

    def __init__(self, folder: RunFolder, recipe: Recipe, supernet: SuperNet, split: str) -> None:
        self._folder = folder
        self._recipe = recipe
        self._supernet = supernet
        self._split = split
        self._data: Any = None

    def rate(self, spec: SubnetSpec) -> dict[str, float]:
        """The task's metrics of a spec on the split."""
        snapshot = self._recipe.snapshots[-1]
        found = self._folder.rating(snapshot, self._split, spec)
        if found is None:
            if self._data is None:
                self._data = self._recipe.task.load(str(self._folder.supernet))
            batch_size = self._recipe.evaluation.batch_size
            found = evaluate(self._supernet.frozen(spec), self._data, self._split, batch_size)
            self._folder.add_rating(snapshot, self._split, spec, found)
        return found
