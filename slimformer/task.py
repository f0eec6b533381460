"""Tasks: where examples come from, which head the model gets, and how predictions are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from slimformer.data import Batch
from slimformer.errors import DataError
from slimformer.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

Example = Mapping[str, Any]
Logits = tuple["np.ndarray", ...]
"""One array per output head, the examples in dimension 0 and in the split's order."""


@dataclass(frozen=True)
class TaskData:
    """The examples of a task, tokenised for one checkpoint.

    train: what the stages train on.
    calibration: a held-out part of the training data, for importance scores and for anything else that must not see
        the evaluation splits. Disjoint from `train`.
    evaluation: the splits on which results are reported, by name; the first one is the main one.
    collate: examples -> padded batch with labels.
    score: (split name, logits) -> metrics in percent of their ideal value, higher is better; `metric` is the main one.
    baselines: scores of trivial methods on the main split, by method, to print beside the results.
    processor: tokenizer or image processor, saved beside every model.
    more: further sets to train on, by name, for stages whose `examples` ask for one.
    """

    train: Sequence[Example]
    calibration: Sequence[Example]
    evaluation: Mapping[str, Sequence[Example]]
    collate: Callable[[Sequence[Example]], Batch]
    score: Callable[[str, Logits], Mapping[str, float]]
    metric: str
    processor: Any
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    more: Mapping[str, Sequence[Example]] = field(default_factory=dict)

    @property
    def main_split(self) -> str:
        return next(iter(self.evaluation))

    def split(self, name: str) -> Sequence[Example]:
        """The examples of "train", "calibration", an evaluation split or a further set to train on.

        Raises: DataError naming the splits there are.
        """
        return _named(name, self._to_train_on | {"calibration": self.calibration} | dict(self.evaluation))

    def training(self, name: str) -> TaskData:
        """The same data, "train" being another of the sets to train on.

        Raises: DataError naming the sets there are.
        """
        return replace(self, train=_named(name, self._to_train_on))

    @property
    def _to_train_on(self) -> dict[str, Sequence[Example]]:
        return {"train": self.train} | dict(self.more)

    def scoring_examples(self, name: str) -> Sequence[Example]:
        """The examples that importance is scored on: those of a split, or for "evaluation" those of all evaluation splits.

        Raises: DataError naming the splits there are.
        """
        if name == "evaluation":
            return [split[i] for split in self.evaluation.values() for i in range(len(split))]
        return self.split(name)


def _named(name: str, splits: Mapping[str, Sequence[Example]]) -> Sequence[Example]:
    if name not in splits:
        raise DataError(f"the task has no split called {name!r}; there are: {', '.join(splits)}")
    return splits[name]


class Task(Protocol):
    """A task.

    Law: `load` is a function of its arguments and the files it names: the same call gives the same examples in the same order.
    """

    def load_model(self, checkpoint: str, attention: str) -> nn.Module:
        """A model with this task's head, its body from the checkpoint (a folder or a hub name).

        attention: the attention implementation, "sdpa" or "eager". A new head draws from torch's global generator.
        Raises: CheckpointError.
        """
        ...

    def load(self, checkpoint: str) -> TaskData:
        """The task's examples, tokenised by the checkpoint's tokenizer.

        Raises: DataError saying which folder, file or column to give.
        """
        ...


TASKS: Registry[Task] = Registry("task", "tasks")
