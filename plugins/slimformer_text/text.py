"""What the text tasks share: from rows of text and labels to a model with a head and tokenised, scored splits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from slimformer.checkpoints import load_tokenizer, load_with_head
from slimformer.errors import DataError, first_line
from slimformer.supernet import Batch
from slimformer.tasks import Example, Logits, TaskData, column, data_files, read
from slimformer.tasks.head import in_order_of

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

BAG_OF_WORDS_TEXTS = 20_000


@dataclass(frozen=True)
class Rows:
    """Texts, each one sentence or a pair, and their labels: class numbers, or floats for regression."""

    texts: Sequence[tuple[str, ...]]
    labels: Sequence[int | float]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int]) -> Rows:
        return Rows([self.texts[i] for i in indices], [self.labels[i] for i in indices])

    def renumbered(self, numbers: Sequence[int]) -> Rows:
        """The same rows with other class numbers: class i becomes numbers[i]; no numbers leave the labels as they are."""
        return Rows(self.texts, [numbers[int(label)] for label in self.labels]) if numbers else self

    def __add__(self, more: Rows) -> Rows:
        return Rows([*self.texts, *more.texts], [*self.labels, *more.labels])


@runtime_checkable
class Augmentable(Protocol):
    """A text task whose training rows can be varied; its options include those of `Limits` and `augmented`."""

    def repeats(self) -> int:
        """How often each text is varied, unless told otherwise."""
        ...

    def training_rows(self) -> Rows:
        """The rows from which `build` makes the training splits."""
        ...


@dataclass(frozen=True)
class Goal:
    """What is predicted and how it is scored.

    classes: the names of the classes in the order of their numbers; empty for regression.
    metrics: names from `METRICS`, the main one first.
    positive: the class whose F1 is scored where there are two; empty for the second one.
    """

    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    positive: str = ""

    @property
    def regression(self) -> bool:
        return not self.classes

    @property
    def positive_class(self) -> int:
        """The number of the class whose F1 is scored."""
        return self.classes.index(self.positive) if self.positive else 1

    def following(self, checkpoint: str) -> Goal:
        """The same goal with the classes in the order of the checkpoint's head, where both have the same names."""
        positive = self.positive or (self.classes[1] if len(self.classes) == 2 else "")
        return replace(self, classes=in_order_of(checkpoint, self.classes), positive=positive)

    def numbers_in(self, other: Goal) -> list[int]:
        """The number in another order of the classes, by the number in this one."""
        return [other.classes.index(name) for name in self.classes]


@dataclass(frozen=True)
class Limits:
    """How much of the rows is used; 0 examples means all of them.

    max_length: tokens per example.
    pad_to_max_length: every batch is padded to max_length, as the released DynaBERT does, not to its longest example.
    baselines: whether trivial methods are scored too.
    """

    max_length: int
    max_train: int
    max_eval: int
    calibration_size: int
    seed: int
    baselines: bool
    pad_to_max_length: bool = False


def limits_of(task: Any) -> Limits:
    """The limits that a task's options of the same names set."""
    return Limits(**{field.name: getattr(task, field.name) for field in fields(Limits)})


def load_classifier(checkpoint: str, attention: str, goal: Goal) -> nn.Module:
    """The checkpoint's body in float32 with a sequence-classification head; a head of the right size is kept.

    Raises: CheckpointError when the weights cannot be read or do not fill the body.
    """
    config = _head_config(goal.following(checkpoint))
    return load_with_head("AutoModelForSequenceClassification", checkpoint, attention, config)


def _head_config(goal: Goal) -> dict[str, Any]:
    if goal.regression:
        return {"num_labels": 1, "problem_type": "regression"}
    return {
        "num_labels": len(goal.classes),
        "problem_type": "single_label_classification",
        "id2label": dict(enumerate(goal.classes)),
        "label2id": {name: number for number, name in enumerate(goal.classes)},
    }


def by_value(name: str) -> tuple[int, str]:
    """The order of numbers as labels; those of one value ("1", "01") by their letters."""
    return int(name), name


def check_names(names: Set[str], source: object) -> None:
    """Check that no two labels differ by the spaces around them alone, which is a slip.

    Raises: DataError naming both.
    """
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault(name.strip(), name)
        if other != name:
            raise DataError(f"{source} has the labels {other!r} and {name!r}, which differ by spaces alone: write them alike")


def check_plain(values: Sequence[Any], name: str, source: object) -> None:
    """Check that the values of a column are texts or numbers.

    Raises: DataError for a list or a table, whose Python spelling would be taken for a text or a class.
    """
    row = next((i for i, value in enumerate(values, start=1) if isinstance(value, list | tuple | Mapping)), 0)
    if row:
        kind = "table" if isinstance(values[row - 1], Mapping) else "list"
        raise DataError(
            f"row {row} of {source} has a {kind} for {name!r}: give one text or number a row (join words by spaces; for a tag "
            "of each word use the task token_files; several classes for one text are not supported)"
        )


def class_numbers(values: Sequence[Any], numbers: Mapping[str, int], source: object) -> list[int]:
    """The class number of each label.

    Raises: DataError for a label that is not in the label set.
    """
    strange = next((value for value in values if str(value) not in numbers), None)
    if strange is not None:
        raise DataError(f"{source} has the label {str(strange)!r}, which is not one of: {', '.join(numbers)}")
    return [numbers[str(value)] for value in values]


def real_numbers(values: Sequence[Any], source: object) -> list[float]:
    """The labels of a regression.

    Raises: DataError for a label that is not a finite number.
    """
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise DataError(f"{source} has a label that is not a number: {first_line(error)}") from error
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"{source} has a label that is not a finite number; remove the row or mend the label")
    return numbers


def build(
    checkpoint: str, train: Rows, evaluation: Mapping[str, Rows], goal: Goal, limits: Limits, augmented: str = ""
) -> TaskData:
    """The task's data: splits cut to size, tokenised, with their collator, scores and baselines.

    augmented: a file with variants of the training rows; with those of the rows that are learnt they make up the further
        training set "augmented".
    """
    tokenizer = load_tokenizer(checkpoint, pads=True)
    held_out, learnt = held_out_and_learnt(len(train), limits)
    variants = read_variants(Path(augmented), train, set(learnt)) if augmented else Rows((), ())
    numbers = goal.numbers_in(goal.following(checkpoint))
    train, variants, goal = train.renumbered(numbers), variants.renumbered(numbers), goal.following(checkpoint)
    calibration, learn = train.take(held_out), train.take(learnt)
    judged = {name: subset(rows.renumbered(numbers), limits.max_eval, limits.seed) for name, rows in evaluation.items()}
    score = Score({"train": learn.labels, "calibration": calibration.labels} | _labels(judged), goal)
    main = next(iter(judged))
    return TaskData(
        train=tokenise(tokenizer, learn, limits.max_length),
        calibration=tokenise(tokenizer, calibration, limits.max_length),
        evaluation={name: tokenise(tokenizer, rows, limits.max_length) for name, rows in judged.items()},
        collate=Collate(tokenizer, goal.regression, limits.max_length if limits.pad_to_max_length else 0),
        score=score,
        metric=goal.metrics[0],
        processor=tokenizer,
        baselines=Baselines(learn, judged[main], goal, lambda logits: score(main, logits)) if limits.baselines else {},
        more={"augmented": Tokenised(tokenizer, learn + variants, limits.max_length)} if augmented else {},
    )


def _labels(splits: Mapping[str, Rows]) -> dict[str, Sequence[int | float]]:
    return {name: rows.labels for name, rows in splits.items()}


def held_out_and_learnt(count: int, limits: Limits) -> tuple[list[int], list[int]]:
    """Which of `count` training rows are held out for calibration, and which of the others are trained on."""
    held_out, rest = draw(count, min(limits.calibration_size, count // 10), limits.seed)
    if not 0 < limits.max_train < len(rest):
        return held_out, rest
    return held_out, [rest[place] for place in draw(len(rest), limits.max_train, limits.seed)[0]]


def draw(count: int, size: int, seed: int) -> tuple[list[int], list[int]]:
    """(a random part of `size` of the numbers below `count`, the rest), both in order."""
    chosen = set(random.Random(seed).sample(range(count), size))
    return sorted(chosen), [number for number in range(count) if number not in chosen]


def split_off(rows: Rows, size: int, seed: int) -> tuple[Rows, Rows]:
    """(a random part of `size` rows, the rest), both in the rows' order."""
    chosen, rest = draw(len(rows), size, seed)
    return rows.take(chosen), rows.take(rest)


def subset(rows: Rows, size: int, seed: int) -> Rows:
    """A random part of the rows in their order; all of them for size 0."""
    return split_off(rows, size, seed)[0] if 0 < size < len(rows) else rows


def read_variants(path: Path, train: Rows, wanted: Set[int]) -> Rows:
    """The rows of a file made by `slimformer augment` whose source is among the wanted training rows.

    Raises: DataError where the file is missing or was made from other training rows.
    """
    table = read(data_files(path))
    sources, texts, labels = (column(table, (name,), path) for name in VARIANT_COLUMNS)
    for number, (source, parts, label) in enumerate(zip(sources, texts, labels, strict=True), start=1):
        if not 0 <= source < len(train) or label != train.labels[source] or len(parts) != len(train.texts[source]):
            raise DataError(
                f"{path} was made from other training rows (line {number} does not fit row {source}): make it anew with "
                "'slimformer augment'"
            )
    kept = [number for number, source in enumerate(sources) if source in wanted]
    return Rows([tuple(texts[i]) for i in kept], [train.labels[sources[i]] for i in kept])


VARIANT_COLUMNS = ("source", "texts", "label")
"""Of a file of variants: the training row's number, counted from 0; its texts, one of them varied; its label as in `Rows`."""


def tokenise(tokenizer: Any, rows: Rows, max_length: int) -> list[Example]:
    """One dict of lists per row: input_ids, attention_mask, token_type_ids where the tokenizer has them, labels."""
    if not len(rows):
        return []
    sentences = [list(part) for part in zip(*rows.texts, strict=True)]
    encoded = tokenizer(*sentences, truncation=True, max_length=max_length)
    columns = dict(encoded) | {"labels": list(rows.labels)}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@dataclass(frozen=True)
class Tokenised(Sequence[Example]):
    """Rows tokenised one by one when they are asked for: a large set's tokens would not fit in memory."""

    tokenizer: Any
    rows: Rows
    max_length: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return tokenise(self.tokenizer, self.rows.take([index]), self.max_length)[0]


@dataclass(frozen=True)
class Collate:
    """Pads the examples of a batch to the longest of them, or to `length` tokens if that is above zero."""

    tokenizer: Any
    regression: bool
    length: int = 0

    def __call__(self, examples: Sequence[Example]) -> Batch:
        import torch

        inputs = [{key: value for key, value in example.items() if key != "labels"} for example in examples]
        labels = torch.tensor([e["labels"] for e in examples], dtype=torch.float32 if self.regression else torch.long)
        padding = {"padding": "max_length", "max_length": self.length} if self.length else {}
        return {**self.tokenizer.pad(inputs, return_tensors="pt", **padding), "labels": labels}


def _accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    return float((labels == predicted).mean())


def _f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """F1 of the positive class, which is 1 here; GLUE scores MRPC and QQP so."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, zero_division=0))


def _f1_macro(labels: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, average="macro", zero_division=0))


def _matthews(labels: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predicted))


def _pearson(labels: np.ndarray, predicted: np.ndarray) -> float:
    from scipy.stats import pearsonr

    return 0.0 if predicted.std() == 0 else float(pearsonr(labels, predicted).statistic)


def _spearman(labels: np.ndarray, predicted: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return 0.0 if predicted.std() == 0 else float(spearmanr(labels, predicted).statistic)


CLASS_METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "matthews": _matthews,
}
REGRESSION_METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {"spearman": _spearman, "pearson": _pearson}
METRICS = {**CLASS_METRICS, **REGRESSION_METRICS}
"""Name -> (labels, predictions) -> share of the ideal value, at most 1."""


@dataclass(frozen=True)
class Score:
    """Metrics of a split's logits, in percent: the class of the largest logit, or the number itself for regression."""

    labels: Mapping[str, Sequence[int | float]]
    goal: Goal

    def __call__(self, split: str, logits: Logits) -> Mapping[str, float]:
        import numpy as np

        labels, values = np.asarray(self.labels[split]), np.asarray(logits[0])
        if len(labels) != len(values):
            raise DataError(f"split {split!r} has {len(labels)} examples, but logits of {len(values)} were given")
        predicted = values.reshape(-1) if self.goal.regression else values.argmax(-1)
        return {name: 100 * METRICS[name](*self._binary(name, labels, predicted)) for name in self.goal.metrics}

    def _binary(self, metric: str, labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels and predictions as the metric takes them: for F1, whether they are the positive class."""
        if metric != "f1":
            return labels, predicted
        return (labels == self.goal.positive_class).astype(int), (predicted == self.goal.positive_class).astype(int)


@dataclass(frozen=True, eq=False)
class Baselines(Mapping[str, Mapping[str, float]]):
    """Scores of trivial methods, computed when first asked for (seconds).

    score: logits of the judged rows -> metrics.
    """

    train: Rows
    judged: Rows
    goal: Goal
    score: Callable[[Logits], Mapping[str, float]]

    @cached_property
    def _scores(self) -> Mapping[str, Mapping[str, float]]:
        constant = "mean label" if self.goal.regression else "most frequent class"
        return {constant: self.score((self._constant(),)), "bag of words": self.score((self._bag_of_words(),))}

    def _constant(self) -> np.ndarray:
        import numpy as np

        labels = np.asarray(self.train.labels)
        value = labels.mean(keepdims=True) if self.goal.regression else np.bincount(labels, minlength=len(self.goal.classes))
        return np.tile(value, (len(self.judged), 1))

    def _bag_of_words(self) -> np.ndarray:
        """TF-IDF of words and word pairs, then logistic (or ridge) regression."""
        import numpy as np
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression, Ridge

        rows = subset(self.train, BAG_OF_WORDS_TEXTS, seed=0)
        if len(set(rows.labels)) < 2:
            return self._constant()
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        features = words.fit_transform([" ".join(texts) for texts in rows.texts])
        judged = words.transform([" ".join(texts) for texts in self.judged.texts])
        if self.goal.regression:
            return Ridge().fit(features, rows.labels).predict(judged)[:, None]
        model = LogisticRegression(C=10, max_iter=1000).fit(features, rows.labels)
        logits = np.zeros((len(self.judged), len(self.goal.classes)))
        logits[:, model.classes_] = model.predict_proba(judged)
        return logits

    def __getitem__(self, name: str) -> Mapping[str, float]:
        return self._scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)
