"""GLUE, from the hub or from a local folder, with the official formats, splits and metrics."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from slimformer.errors import DataError, first_line
from slimformer.registry import Count, Positive, Seed
from slimformer.tasks import TASKS, Table, TaskData, column, find_shards, read
from slimformer.tasks.files import FORMATS
from slimformer_text.text import Goal, Rows, build, class_numbers, limits_of, load_classifier, real_numbers

if TYPE_CHECKING:
    from torch import nn

HUB = "nyu-mll/glue"


@dataclass(frozen=True)
class Subset:
    """One of GLUE's tasks as its files write it.

    folder: its name in the official download.
    texts, label: the names that a column goes by, the official one first, the hub's last.
    classes: in the hub's order; empty for regression.
    headerless: the columns of the official file where it has no header.
    splits: name of the evaluation split -> the stems its file goes by.
    repeats: how often the released TinyBERT varies each training text.
    """

    folder: str
    texts: tuple[tuple[str, ...], ...]
    label: tuple[str, ...]
    classes: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    headerless: tuple[str, ...] = ()
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"validation": ("dev", "validation")})
    repeats: int = 30

    @property
    def goal(self) -> Goal:
        return Goal(self.classes, self.metrics)


SENTENCE = (("sentence",),)
PAIR = (("sentence1",), ("sentence2",))
LABEL = ("label",)
ENTAILMENT = ("entailment", "not_entailment")

SUBSETS = {
    "cola": Subset(
        "CoLA",
        SENTENCE,
        LABEL,
        ("unacceptable", "acceptable"),
        metrics=("matthews",),
        headerless=("source", "label", "mark", "sentence"),
    ),
    "sst2": Subset("SST-2", SENTENCE, LABEL, ("negative", "positive"), repeats=20),
    "mrpc": Subset(
        "MRPC",
        (("#1 String", "sentence1"), ("#2 String", "sentence2")),
        ("Quality", "label"),
        ("not_equivalent", "equivalent"),
        metrics=("accuracy", "f1"),
    ),
    "qqp": Subset(
        "QQP",
        (("question1",), ("question2",)),
        ("is_duplicate", "label"),
        ("not_duplicate", "duplicate"),
        metrics=("accuracy", "f1"),
        repeats=10,
    ),
    "stsb": Subset("STS-B", PAIR, ("score", "label"), (), metrics=("spearman", "pearson")),
    "mnli": Subset(
        "MNLI",
        (("sentence1", "premise"), ("sentence2", "hypothesis")),
        ("gold_label", "label"),
        ("entailment", "neutral", "contradiction"),
        splits={
            "validation_matched": ("dev_matched", "validation_matched"),
            "validation_mismatched": ("dev_mismatched", "validation_mismatched"),
        },
        repeats=10,
    ),
    "qnli": Subset("QNLI", (("question",), ("sentence",)), LABEL, ENTAILMENT, repeats=20),
    "rte": Subset("RTE", PAIR, LABEL, ENTAILMENT),
    "wnli": Subset("WNLI", PAIR, LABEL, ("not_entailment", "entailment")),
}
"""Option value -> the task. Source: Wang et al. 2019 (GLUE), table 1; the class numbers are those of the hub's copy."""


@TASKS.register("glue")
@dataclass(frozen=True)
class Glue:
    """GLUE's nine tasks, from the hub or from a local folder.

    path: the subset's folder (train.tsv, dev.tsv or the like), or a folder that holds it; empty for the hub.
    max_length: tokens per example.
    max_train, max_eval: a random part of this many examples; 0 for all.
    calibration_size: examples held out of train, at most a tenth of it.
    pad_to_max_length: pad every batch to max_length tokens, not to its longest example.
    augmented: a file made by `slimformer augment`, for stages with examples = "augmented".
    """

    subset: str = "mrpc"
    path: str = ""
    max_length: Positive = 128
    max_train: Count = 0
    max_eval: Count = 0
    calibration_size: Count = 512
    seed: Seed = 0
    baselines: bool = False
    pad_to_max_length: bool = False
    augmented: str = ""

    def load_model(self, checkpoint: str, attention: str) -> nn.Module:
        return load_classifier(checkpoint, attention, find_subset(self.subset).goal)

    def load(self, checkpoint: str) -> TaskData:
        splits = self._splits()
        return build(checkpoint, splits.pop("train"), splits, find_subset(self.subset).goal, limits_of(self), self.augmented)

    def training_rows(self) -> Rows:
        return self._splits()["train"]

    def repeats(self) -> int:
        return find_subset(self.subset).repeats

    def _splits(self) -> dict[str, Rows]:
        subset = find_subset(self.subset)
        return local_splits(subset, Path(self.path)) if self.path else hub_splits(subset, self.subset)


def find_subset(name: str) -> Subset:
    """The subset of that name.

    Raises: DataError naming the nearest one.
    """
    if name not in SUBSETS:
        near = difflib.get_close_matches(plain(name), SUBSETS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(f"GLUE has no subset {name!r}.{hint} There are: {', '.join(SUBSETS)}")
    return SUBSETS[name]


def plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def local_splits(subset: Subset, path: Path) -> dict[str, Rows]:
    """Train and evaluation splits from a folder.

    Raises: DataError for a folder or file that is not there, or that does not hold the subset.
    """
    folder = find_folder(subset, path)
    splits = {}
    for name, stems in {"train": ("train",), **subset.splits}.items():
        files = find_shards(folder, stems)
        if not files:
            raise DataError(f"{folder} has no file {stems[0]}.tsv; any of these endings will do: {', '.join(FORMATS)}")
        splits[name] = parse(subset, read(files, subset.headerless), files[0])
    return splits


def find_folder(subset: Subset, path: Path) -> Path:
    """The path itself where it has a train file, else its folder named after the subset, whatever the case and dashes."""
    if not path.is_dir():
        raise DataError(f"there is no folder {path}; give the folder that holds {subset.folder}/train.tsv")
    if find_shards(path, ("train", *(stem for stems in subset.splits.values() for stem in stems))):
        return path
    inner = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and plain(folder.name) == plain(subset.folder)]
    if not inner:
        raise DataError(f"{path} has neither a train file nor a folder {subset.folder}; give the folder that has one")
    return inner[0]


def hub_splits(subset: Subset, name: str) -> dict[str, Rows]:
    """Train and evaluation splits from the hub or its cache.

    Raises: DataError when the hub is out of reach.
    """
    from datasets import load_dataset

    try:
        loaded = load_dataset(HUB, name)
    except Exception as error:  # the network, the hub and the cache each have their own
        raise DataError(
            f"cannot load GLUE's {name} from the hub: {first_line(error)}. Give a local copy with "
            "`--set task.path=FOLDER`, or run recipes/quickstart.toml, which needs no download"
        ) from error
    return {split: parse(subset, loaded[split].to_dict(), f"{HUB} {name} {split}") for split in ("train", *subset.splits)}


def parse(subset: Subset, table: Table, source: object) -> Rows:
    """Texts and labels of a table; rows that lack a field are left out, as in the hub's copy (QQP has a few).

    Raises: DataError for a column that is not there or a label that is not in the label set.
    """
    columns = [column(table, names, source) for names in (*subset.texts, subset.label)]
    whole = [row for row in zip(*columns, strict=True) if None not in row]
    if not whole:
        raise DataError(f"{source} has no row with all of: {', '.join(names[0] for names in (*subset.texts, subset.label))}")
    *texts, values = zip(*whole, strict=True)
    pairs = [tuple(map(str, parts)) for parts in zip(*texts, strict=True)]
    if not subset.classes:
        return Rows(pairs, real_numbers(values, source))
    numbers = {key: number for number, name in enumerate(subset.classes) for key in (name, str(number))}
    return Rows(pairs, class_numbers(values, numbers, source))
