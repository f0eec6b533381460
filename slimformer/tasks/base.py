"""Tasks: where examples come from, which head the model gets, and how predictions are scored."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from slimformer.errors import DataError
from slimformer.registry import Registry
from slimformer.supernet.outputs import Batch

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor, nn

T = TypeVar("T")

Example = Mapping[str, Any]
"""One tokenised example: the model's inputs and its label, by name."""

Logits = tuple["np.ndarray", ...]
"""One array per output head, the examples in dimension 0 and in the split's order."""


@dataclass(frozen=True)
class Measure:
    """How a metric is read.

    unit: "%" of the ideal value, or what a plain number counts ("" for a bare number).
    lower_is_better: whether less is better; such a metric has no upper end.
    """

    unit: str = "%"
    lower_is_better: bool = False

    def rating(self, value: float) -> float:
        """The value so that higher is better."""
        return -value if self.lower_is_better else value

    def text(self, value: float) -> str:
        return f"{value:.2f} {self.unit}".rstrip()

    def titled(self, name: str) -> str:
        """The metric's name with its unit, for the head of a column."""
        return f"{name}, {self.unit}" if self.unit else name


Keep = Callable[[tuple["Tensor", ...], Batch], tuple["Tensor", ...]]
"""(a batch's logits, the batch) -> what scoring needs of them, the examples in dimension 0."""


def keep_all(logits: tuple[Tensor, ...], batch: Batch) -> tuple[Tensor, ...]:
    """The logits as they are: the default of `TaskData.keep`."""
    return logits


def unchanged(batch: Batch, generator: Generator) -> Batch:
    """The batch as it is: the default of `TaskData.augment`."""
    return batch


@dataclass(frozen=True)
class TaskData:
    """The examples of a task, tokenised for one checkpoint.

    train: what the stages train on.
    calibration: a held-out part of the training data, for importance scores and for anything else that must not see
        the evaluation splits. Disjoint from `train`.
    evaluation: the splits on which results are reported, by name; the first one is the main one.
    collate: examples -> padded batch with labels.
    score: (split name, logits) -> metrics; `metric` is the main one.
    measures: how each metric is read; one that is not named here is in percent of its ideal value, higher is better.
    keep: what `score` needs of the logits, where all of them would not fit in memory.
    augment: (a training batch, generator) -> the batch that is learnt. Law: a function of its arguments, so that a resumed
        run sees the same.
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
    measures: Mapping[str, Measure] = field(default_factory=dict)
    keep: Keep = keep_all
    augment: Callable[[Batch, Generator], Batch] = unchanged

    def measure(self, metric: str) -> Measure:
        return self.measures.get(metric, Measure())

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


def split_off(examples: Sequence[T], size: int, seed: int) -> tuple[list[T], list[T]]:
    """(a random part of `size` examples, the rest), both in their order."""
    chosen = set(random.Random(seed).sample(range(len(examples)), size))
    part = [example for i, example in enumerate(examples) if i in chosen]
    return part, [example for i, example in enumerate(examples) if i not in chosen]


def at_most(examples: Sequence[T], size: int, seed: int) -> Sequence[T]:
    """A random part of `size` examples in their order; all of them for size 0."""
    return split_off(examples, size, seed)[0] if 0 < size < len(examples) else examples


class Task(Protocol):
    """A task.

    Law: `load` is a function of its arguments and the files it names: the same call gives the same examples in the same order.
    """

    def load_model(self, checkpoint: str, attention: str) -> nn.Module:
        """A model with this task's head, its body from the checkpoint (a folder or a hub name), or new for "new:CHECKPOINT".

        attention: the attention implementation, "sdpa", "eager", or "auto", which is sdpa where the model has it.
            A new head draws from torch's global generator.
        Raises: CheckpointError.
        """
        ...

    def load(self, checkpoint: str) -> TaskData:
        """The task's examples, tokenised by the checkpoint's tokenizer.

        Raises: DataError saying which folder, file or column to give.
        """
        ...


TASKS: Registry[Task] = Registry("task", "tasks", requires=("load", "load_model"))
"""Tasks by name."""
