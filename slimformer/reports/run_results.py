"""Results of a run: the metrics and costs of every sub-network, as in results.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from slimformer.costs.base import Workload
from slimformer.reports.json_shapes import items, metrics_by_split, number, numbers, table, text
from slimformer.supernet.spec import SubnetSpec
from slimformer.tasks.base import Measure

Json = dict[str, object]


@dataclass(frozen=True)
class ResultRow:
    """One sub-network of the grid.

    ratios: by axis, what it keeps.
    costs: by cost, in the units that `RunResults.costs` states.
    metrics: by evaluation split and metric, after the last stage.
    snapshots: the main metric on the main split at each rated point of the run.
    """

    name: str
    ratios: Mapping[str, float]
    spec: SubnetSpec | None
    costs: Mapping[str, float]
    metrics: Mapping[str, Mapping[str, float]]
    snapshots: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> Json:
        spec = {} if self.spec is None else {"spec": self.spec.to_json()}
        about: Json = {"name": self.name, "ratios": dict(self.ratios), **spec, "costs": dict(self.costs)}
        metrics = {split: dict(found) for split, found in self.metrics.items()}
        return about | {"metrics": metrics, "snapshots": dict(self.snapshots)}

    @staticmethod
    def from_json(value: object, place: str) -> ResultRow:
        """Read a row back.

        Raises: ValueError naming the value of the wrong shape.
        """
        row = table(value, place)
        return ResultRow(
            text(row.get("name"), f"{place}.name"),
            numbers(row.get("ratios"), f"{place}.ratios"),
            _spec(row["spec"], f"{place}.spec") if "spec" in row else None,
            numbers(row.get("costs"), f"{place}.costs"),
            metrics_by_split(row.get("metrics"), f"{place}.metrics"),
            numbers(row.get("snapshots", {}), f"{place}.snapshots"),
        )


@dataclass(frozen=True)
class RunResults:
    """The outcome of a run.

    metric: the main metric; `split`: the evaluation split on which results are stated.
    teacher: metrics of the fine-tuned model, by split.
    costs: the unit of each cost.
    workload: the inputs for which costs are stated.
    measures: how each metric is read; in percent, higher is better, where a metric is not named.
    baselines: metrics of trivial methods on the main split.
    """

    name: str
    metric: str
    split: str
    teacher: Mapping[str, Mapping[str, float]]
    costs: Mapping[str, str]
    rows: tuple[ResultRow, ...]
    workload: Workload = Workload()
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)

    @property
    def teacher_metric(self) -> float:
        """The main metric of the fine-tuned model."""
        return float(self.teacher[self.split][self.metric])

    def value(self, row: ResultRow) -> float:
        """The main metric of a sub-network on the main split."""
        return float(row.metrics[self.split][self.metric])

    def measure(self, metric: str = "") -> Measure:
        """How a metric is read; the main one unless named."""
        return self.measures.get(metric or self.metric, Measure())

    @property
    def earlier(self) -> tuple[str, ...]:
        """The rated points of the run before the last one."""
        return tuple(self.rows[0].snapshots)[:-1]

    def to_json(self) -> Json:
        """The results as in results.json."""
        measures = {name: asdict(measure) for name, measure in self.measures.items()}
        return {
            "name": self.name,
            "metric": self.metric,
            **({"measures": measures} if measures else {}),
            "split": self.split,
            "teacher": {split: dict(found) for split, found in self.teacher.items()},
            "baselines": {name: dict(found) for name, found in self.baselines.items()},
            "costs": dict(self.costs),
            "workload": {"batch_size": self.workload.batch_size, "length": self.workload.length},
            "rows": [row.to_json() for row in self.rows],
        }

    @staticmethod
    def from_json(value: object) -> RunResults:
        """Read results back.

        Raises: ValueError naming the value that is missing or of the wrong shape.
        """
        found = table(value, "the document")
        results = RunResults(
            name=text(found.get("name", ""), "name"),
            metric=text(found.get("metric"), "metric"),
            split=text(found.get("split"), "split"),
            teacher=metrics_by_split(found.get("teacher"), "teacher"),
            costs={name: text(unit, f"costs.{name}") for name, unit in table(found.get("costs"), "costs").items()},
            rows=tuple(ResultRow.from_json(row, f"rows.{i}") for i, row in enumerate(items(found.get("rows"), "rows"))),
            workload=_workload(found.get("workload", {})),
            baselines=metrics_by_split(found.get("baselines", {}), "baselines"),
            measures={
                name: _measure(m, f"measures.{name}") for name, m in table(found.get("measures", {}), "measures").items()
            },
        )
        results._check_rows()
        return results

    def _check_rows(self) -> None:
        """Check that every row, the teacher and the baselines have what the tables show."""
        if not self.rows:
            raise ValueError("it has no rows")
        if not self.costs:
            raise ValueError("it names no cost")
        places = {"teacher": self.teacher} | {f"row {row.name!r}": row.metrics for row in self.rows}
        places |= {f"baseline {name!r}": {self.split: found} for name, found in self.baselines.items()}
        for place, metrics in places.items():
            if self.metric not in metrics.get(self.split, {}):
                raise ValueError(f"{place} has no {self.metric} on {self.split}")
        for row in self.rows:
            if set(row.costs) != set(self.costs) or list(row.ratios) != list(self.rows[0].ratios):
                raise ValueError(f"row {row.name!r} has other costs or axes than the table")
            if list(row.snapshots) != list(self.rows[0].snapshots) or set(row.metrics) != set(self.rows[0].metrics):
                raise ValueError(f"row {row.name!r} has other snapshots or splits than the first row")


def _spec(value: object, place: str) -> SubnetSpec:
    found = table(value, place)
    for name, units in table(found.get("units"), f"{place}.units").items():
        number(units, f"{place}.units.{name}")
    for name, blocks in table(found.get("blocks"), f"{place}.blocks").items():
        for block in items(blocks, f"{place}.blocks.{name}"):
            number(block, f"{place}.blocks.{name}")
    return SubnetSpec.from_json(found)


def _measure(value: object, place: str) -> Measure:
    found = table(value, place)
    return Measure(text(found.get("unit", "%"), f"{place}.unit"), bool(found.get("lower_is_better", False)))


def _workload(value: object) -> Workload:
    found, default = numbers(value, "workload"), Workload()
    return Workload(int(found.get("batch_size", default.batch_size)), int(found.get("length", default.length)))
