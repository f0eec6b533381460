"""The user's own text classification or regression data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimformer.errors import DataError
from slimformer.registry import Count, Name, Positive, Seed
from slimformer.tasks import TASKS, TaskData, column, data_files, read
from slimformer_text.text import (
    CLASS_METRICS,
    REGRESSION_METRICS,
    Goal,
    Rows,
    build,
    by_value,
    check_names,
    check_plain,
    class_numbers,
    limits_of,
    load_classifier,
    real_numbers,
    split_off,
)

if TYPE_CHECKING:
    from torch import nn


REPEATS = 20
"""How often `slimformer augment` varies a text. Source: TinyBERT, arXiv 1909.10351."""


@TASKS.register("text_files")
@dataclass(frozen=True)
class TextFiles:
    """Your own texts and labels, from tsv, csv, json, jsonl or parquet files.

    train, validation: a file, or a folder of files of one kind; without validation, a tenth of train is split off.
    text, text_pair, label: names of columns; an empty text_pair means single texts.
    regression: labels are numbers to predict, not classes.
    metric: the main metric; empty for accuracy, or spearman for regression.
    positive: the label whose F1 is scored; empty for the second of the two.
    max_length: tokens per example.
    max_train, max_eval: a random part of this many examples; 0 for all.
    calibration_size: examples held out of train, at most a tenth of it.
    pad_to_max_length: pad every batch to max_length tokens, not to its longest example.
    augmented: a file made by `slimformer augment`, for stages with examples = "augmented".
    """

    train: Name
    validation: str = ""
    text: Name = "text"
    text_pair: str = ""
    label: Name = "label"
    regression: bool = False
    metric: str = ""
    positive: str = ""
    max_length: Positive = 128
    max_train: Count = 0
    max_eval: Count = 0
    calibration_size: Count = 512
    seed: Seed = 0
    baselines: bool = False
    pad_to_max_length: bool = False
    augmented: str = ""

    def load_model(self, checkpoint: str, attention: str) -> nn.Module:
        return load_classifier(checkpoint, attention, self._goal(self._columns(self.train)[-1]))

    def load(self, checkpoint: str) -> TaskData:
        goal, train, validation = self._splits()
        return build(checkpoint, train, {"validation": validation}, goal, limits_of(self), self.augmented)

    def training_rows(self) -> Rows:
        return self._splits()[1]

    def repeats(self) -> int:
        return REPEATS

    def _splits(self) -> tuple[Goal, Rows, Rows]:
        columns = self._columns(self.train)
        goal = self._goal(columns[-1])
        train = self._rows(columns, goal, self.train)
        if self.validation:
            return goal, train, self._rows(self._columns(self.validation), goal, self.validation)
        validation, rest = split_off(train, max(1, len(train) // 10), self.seed)
        return goal, rest, validation

    def _columns(self, path: str) -> list[Sequence[Any]]:
        """The text column or columns and the label column of a file, every field filled."""
        table = read(data_files(Path(path)))
        names = [name for name in (self.text, self.text_pair, self.label) if name]
        columns = [column(table, (name,), path) for name in names]
        for name, values in zip(names, columns, strict=True):
            if None in values:
                raise DataError(f"row {values.index(None) + 1} of {path} has no {name!r}; fill it in or remove the row")
            check_plain(values, name, path)
        return columns

    def _goal(self, labels: Sequence[Any]) -> Goal:
        known, usual = (REGRESSION_METRICS, "spearman") if self.regression else (CLASS_METRICS, "accuracy")
        metric = self.metric or usual
        if metric not in known:
            kind = "regression" if self.regression else "classification"
            raise DataError(f"{kind} has no metric {metric!r}; there are: {', '.join(known)}")
        classes = () if self.regression else self._classes(labels)
        if metric == "f1" and len(classes) != 2:
            raise DataError(f"metric 'f1' is for two classes and there are {len(classes)}; write metric = \"f1_macro\"")
        if self.positive and self.positive not in classes:
            raise DataError(
                f"positive = {self.positive!r} is not one of the labels: {', '.join(classes) or 'none, as they are numbers'}"
            )
        return Goal(classes, tuple(dict.fromkeys((metric, usual))), self.positive)

    def _classes(self, labels: Sequence[Any]) -> tuple[str, ...]:
        """The training file's label set: numbers by value, words by the alphabet."""
        if any(isinstance(label, float) and not label.is_integer() for label in labels):
            raise DataError(
                f"{self.train} has labels with fractions in {self.label!r}: to predict numbers write task.regression = true"
            )
        names = {str(label) for label in labels}
        check_names(names, self.train)
        if len(names) < 2:
            raise DataError(f"{self.train} has one label only, {names.pop()!r}; a classifier needs two or more")
        return tuple(sorted(names, key=by_value if all(map(str.isdecimal, names)) else None))

    def _rows(self, columns: Sequence[Sequence[Any]], goal: Goal, path: str) -> Rows:
        *texts, labels = columns
        pairs = [tuple(map(str, parts)) for parts in zip(*texts, strict=True)]
        if goal.regression:
            return Rows(pairs, real_numbers(labels, path))
        return Rows(pairs, class_numbers(labels, {name: number for number, name in enumerate(goal.classes)}, path))
