"""Image classification: any data set of pictures and any image classifier of transformers or timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slimformer.errors import DataError
from slimformer.supernet import Batch
from slimformer.tasks import TASKS, Example, Logits, TaskData, at_most, split_off
from slimformer.tasks.head import in_order_of
from slimformer_vision.augment import Augment, Change
from slimformer_vision.checkpoints import load_classifier, load_processor, read_image_config
from slimformer_vision.pictures import Picture, Pictures, find

if TYPE_CHECKING:
    from torch import nn


@TASKS.register("image_classification")
@dataclass(frozen=True)
class ImageClassification:
    """Pictures and their classes, from a folder, parquet files, the hub, or scikit-learn's digits.

    data: "digits" (1,797 of 8 x 8 pixels, which scikit-learn carries), a data set of the hub, or a folder with train and,
        for the evaluation, validation or test or both; without either a tenth of train is split off. Each is a folder with a
        folder of pictures for each class, or tables ("train.parquet", "train-0-of-5.parquet") with the columns image (or
        img; encoded bytes) and label.
    classes: their names, where the labels are numbers and the data set does not name them.
    config: values of the model's configuration to change, tables key by key.
    augment: what training pictures go through: "flip", "crop".
    max_train, max_eval: a random part of this many pictures; 0 for all.
    calibration_size: pictures held out of train, at most a tenth of it.
    """

    data: str
    classes: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    augment: tuple[Change, ...] = ("flip", "crop")
    max_train: int = 0
    max_eval: int = 0
    calibration_size: int = 512
    seed: int = 0

    def load_model(self, checkpoint: str, attention: str) -> nn.Module:
        classes = in_order_of(checkpoint, self.classes or self._classes(find(self.data)))
        return load_classifier(checkpoint, attention, classes, self.config)

    def load(self, checkpoint: str) -> TaskData:
        found = find(self.data)
        classes = self._classes(found)
        ordered = in_order_of(checkpoint, classes)
        config = read_image_config(checkpoint, ordered, self.config)
        splits = self._splits(found, classes, ordered)
        return TaskData(
            train=splits.pop("train"),
            calibration=splits["calibration"],
            evaluation={name: split for name, split in splits.items() if name != "calibration"},
            collate=Collate(load_processor(checkpoint, config)),
            score=Score({name: [example["labels"] for example in split] for name, split in splits.items()}),
            metric="accuracy",
            processor=load_processor(checkpoint, config),
            augment=Augment(self.augment),
        )

    def _splits(self, found: Pictures, classes: Sequence[str], ordered: Sequence[str]) -> dict[str, Sequence[Example]]:
        splits = {
            name: _examples(pictures, classes, ordered, f"{self.data}, {name}") for name, pictures in found.splits.items()
        }
        train = splits.pop("train")
        if not splits:
            splits["validation"], train = split_off(train, max(1, len(train) // 10), self.seed)
        calibration, rest = split_off(train, min(self.calibration_size, len(train) // 10), self.seed)
        judged = {name: at_most(split, self.max_eval, self.seed) for name, split in splits.items()}
        return {"train": at_most(rest, self.max_train, self.seed), "calibration": calibration} | judged

    def _classes(self, found: Pictures) -> tuple[str, ...]:
        """The names of the classes in the order of their numbers: numbers by value, words by the alphabet."""
        labels = {picture.label for picture in found.splits["train"]}
        if len(labels) < 2:
            raise DataError(f"{self.data} has one class only, {labels.pop()!r}; a classifier needs two or more")
        by_value = sorted(labels, key=(lambda label: (int(label), label)) if all(map(str.isdecimal, labels)) else None)
        return self.classes or found.classes or tuple(by_value)


def _examples(pictures: Sequence[Picture], classes: Sequence[str], ordered: Sequence[str], source: str) -> list[Example]:
    """One dict per picture: image, which opens it, and labels, the class number.

    classes: in the order of the data's numbers. ordered: in the order of the numbers that the examples get.
    """
    by_name = {name: number for number, name in enumerate(ordered)}
    numbers = {str(number): by_name[name] for number, name in enumerate(classes)} | by_name
    strange = next((picture.label for picture in pictures if picture.label not in numbers), None)
    if strange is not None:
        raise DataError(f"{source} has the label {strange!r}, which is not one of: {', '.join(classes)}")
    return [{"image": picture.open, "labels": numbers[picture.label]} for picture in pictures]


@dataclass(frozen=True)
class Collate:
    """Opens the pictures of a batch and lets the checkpoint's image processor make them the model's input."""

    processor: Any

    def __call__(self, examples: Sequence[Example]) -> Batch:
        import torch

        pixels = self.processor([example["image"]() for example in examples], return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "labels": torch.tensor([example["labels"] for example in examples])}


@dataclass(frozen=True)
class Score:
    """The share of pictures whose class has the largest logit, in percent."""

    labels: Mapping[str, Sequence[int]]

    def __call__(self, split: str, logits: Logits) -> Mapping[str, float]:
        import numpy as np

        return {"accuracy": 100 * float((logits[0].argmax(-1) == np.asarray(self.labels[split])).mean())}
