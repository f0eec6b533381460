"""Metrics of sub-networks, evaluated at most once and kept in the run folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from slimformer.errors import RunError
from slimformer.files import append_line, read_lines, writing
from slimformer.runs.folder import RunFolder
from slimformer.supernet.spec import SubnetSpec
from slimformer.training.processes import Processes

Metrics = dict[str, float]


@dataclass(frozen=True)
class RatingKey:
    """One evaluation: a sub-network, at a point of the run, on some examples.

    snapshot: "base", "rewired" or the name of a stage.
    split: a split of the task, or a part of one, such as "probe:512 of calibration".
    """

    snapshot: str
    split: str
    spec: SubnetSpec


class Ratings:
    """The metrics of a run's sub-networks, by key; those found in ratings.jsonl are not evaluated again.

    The file is read once, at construction.
    Raises: RunError where a line of the file has the wrong shape.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._known = dict(_read(folder))

    def find(self, key: RatingKey) -> Metrics | None:
        """The metrics kept under a key, if there are any."""
        found = self._known.get(key)
        return dict(found) if found is not None else None

    def get(self, key: RatingKey, evaluate: Callable[[], Mapping[str, float]]) -> Metrics:
        """The metrics of a key; `evaluate` is called, and its result kept, where there are none yet.

        Raises: RunError where a metric is not finite; nothing is kept then.
        """
        if key not in self._known:
            self.add(key, evaluate())
        return dict(self._known[key])

    def missing(self, keys: Iterable[RatingKey]) -> list[RatingKey]:
        """The keys that have no metrics yet, in order."""
        return [key for key in keys if key not in self._known]

    def fill(
        self,
        missing: list[RatingKey],
        evaluate: Callable[[RatingKey], Mapping[str, float]],
        processes: Processes,
        added: Callable[[RatingKey, Metrics], None],
    ) -> None:
        """Evaluate several keys, shared out to the processes of the run; the first process keeps and writes the metrics.

        missing: the same keys in every process.
        added: called in the first process after each key.
        """

        def keep(key: RatingKey, metrics: Mapping[str, float]) -> None:
            self.add(key, metrics)
            added(key, dict(metrics))

        processes.share_out(missing, evaluate, keep)

    def add(self, key: RatingKey, metrics: Mapping[str, float]) -> None:
        """Keep metrics under a key, in memory and as a line of the file.

        Raises: RunError where a metric is not finite: it can be neither ranked nor reported.
        """
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise RunError(
                    f"{name} of a sub-network of {key.snapshot!r} on {key.split} is {value}: the model computes no finite "
                    'numbers; train with a lower learning_rate, or with machine.precision = "fp32"'
                )
        row = {"snapshot": key.snapshot, "split": key.split, "spec": key.spec.to_json(), "metrics": dict(metrics)}
        with writing(self._folder.path):
            append_line(self._folder.ratings, row)
        self._known[key] = dict(metrics)


def _read(folder: RunFolder) -> Iterable[tuple[RatingKey, Metrics]]:
    """The lines of a run's ratings; one with a metric that is not finite is left out, so that it is evaluated again."""
    for number, row in enumerate(read_lines(folder.ratings), start=1):
        try:
            key = RatingKey(_text(row["snapshot"]), _text(row["split"]), SubnetSpec.from_json(row["spec"]))
            metrics = {_text(name): _number(value) for name, value in row["metrics"].items()}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise RunError(f"{folder.ratings}:{number} is damaged ({reason}): remove that line and try again") from None
        if all(map(math.isfinite, metrics.values())):
            yield key, metrics


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where text should be")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} where a number should be")
    return float(value)
