"""Comparison of finished runs as tables and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from slimformer.costs.quantity import format_quantity
from slimformer.reports.escape import for_rich
from slimformer.tasks.base import Measure

COMPARISON_CAPTION = (
    "± is the standard deviation over seeds; the cost is in passes of one example, forward and backward, through the full-size "
    "model; a teacher's pass counts as a third"
)


@dataclass(frozen=True)
class Summary:
    """A number over the runs of a group.

    spread: the standard deviation; 0 for one run.
    """

    mean: float
    spread: float

    def text(self, several: bool) -> str:
        return f"{self.mean:.2f}" + (f" ± {self.spread:.2f}" if several else "")


@dataclass(frozen=True)
class RunGroup:
    """Runs that repeat one recipe with other seeds.

    runs: the run folders.
    teacher, mean, worst: the main metric of the teacher, of the sub-networks on average, and of the worst one.
    passes: training cost, in forward and backward passes of one example through the full-size model.
    points: the main metric of each sub-network.
    difference: by sub-network, the mean's difference from the first group's.
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    teacher: Summary
    mean: Summary
    worst: Summary
    passes: Summary
    points: Mapping[str, Summary]
    difference: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        found = asdict(self)
        return found | {"runs": list(self.runs), "seeds": list(self.seeds)}


@dataclass(frozen=True)
class Comparison:
    """Groups of finished runs; the first group is the one that the others are compared with.

    metric: the main metric of all runs, on `split`.
    measure: how it is read.
    """

    metric: str
    split: str
    measure: Measure
    groups: tuple[RunGroup, ...]

    @property
    def points(self) -> tuple[str, ...]:
        """The names of the sub-networks."""
        return tuple(self.groups[0].points)

    @property
    def title(self) -> str:
        return self.measure.titled(f"{self.metric} on {self.split}")

    def to_json(self) -> dict[str, object]:
        return {
            "metric": self.metric,
            "split": self.split,
            "measures": {self.metric: asdict(self.measure)},
            "points": list(self.points),
            "groups": [group.to_json() for group in self.groups],
        }


def comparison_tables(found: Comparison) -> list[Table]:
    """Two tables: the groups as a whole with their training cost, and each sub-network with differences from the first group."""
    several = any(len(group.runs) > 1 for group in found.groups)
    whole = Table(title=for_rich(found.title) + ", lower is better" * found.measure.lower_is_better, caption=COMPARISON_CAPTION)
    for column in ("runs", "seeds", "teacher", "mean of all", "worst of all", "training cost"):
        whole.add_column(column, justify="left" if column == "runs" else "right")
    for group in found.groups:
        numbers = [summary.text(several) for summary in (group.teacher, group.mean, group.worst)]
        whole.add_row(for_rich(group.name), ", ".join(map(str, group.seeds)), *numbers, format_quantity(group.passes.mean))
    points = Table()
    points.add_column("sub-network", no_wrap=True)
    for index, group in enumerate(found.groups):
        points.add_column(for_rich(group.name), justify="right")
        if index:
            points.add_column("difference", justify="right")
    for name in found.points:
        cells = []
        for index, group in enumerate(found.groups):
            cells += [group.points[name].text(several), *([f"{group.difference[name]:+.2f}"] if index else [])]
        points.add_row(for_rich(name), *cells)
    return [whole, points]


def plot_comparison(found: Comparison, path: Path) -> None:
    """Draw the metric at each point, a line for each group with its spread, and the differences from the first group."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups, points = found.groups, found.points
    figure, panels = pyplot.subplots(2, 1, figsize=(max(7, 0.7 * len(points)), 7), sharex=True, layout="constrained")
    for index, group in enumerate(groups):
        values = [group.points[name] for name in points]
        spread = [value.spread for value in values]
        places = [i + 0.06 * (index - (len(groups) - 1) / 2) for i in range(len(points))]
        label = group.name if len(group.runs) == 1 else f"{group.name}, {len(group.runs)} seeds"
        panels[0].errorbar(places, [v.mean for v in values], spread, fmt="o", capsize=3, color=f"C{index}", label=label)
        panels[0].axhline(group.teacher.mean, color=f"C{index}", linewidth=1, linestyle=":")
        panels[1].plot(range(len(points)), [group.difference[name] for name in points], "o-", color=f"C{index}", markersize=4)
    panels[0].set_ylabel(found.title + "\n(dotted: teacher)")
    panels[1].set_ylabel(f"difference from {groups[0].name}")
    panels[1].set_xticks(range(len(points)), points, rotation=45, ha="right")
    panels[0].legend(frameon=False, fontsize=9)
    for panel in panels:
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=150, format="png")
    pyplot.close(figure)
