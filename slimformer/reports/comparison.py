"""Tables and the picture of `slimformer compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from slimformer.costs.quantity import format_quantity
from slimformer.reports.results import measure_of


def comparison_tables(found: Mapping[str, Any]) -> list[Table]:
    """Groups of runs: what they reach as a whole and cost, then each sub-network, with differences from the first group."""
    from slimformer.reports.results import measure_of

    groups, several = found["groups"], any(len(group["runs"]) > 1 for group in found["groups"])

    def cell(number: Mapping[str, float]) -> str:
        return f"{number['mean']:.2f}" + (f" ± {number['spread']:.2f}" if several else "")

    measure = measure_of(found)
    title = measure.titled(f"{found['metric']} on {found['split']}") + ", lower is better" * measure.lower_is_better
    whole = Table(title=title, caption=COMPARISON_CAPTION)
    for column in ("runs", "seeds", "teacher", "mean of all", "worst of all", "training cost"):
        whole.add_column(column, justify="left" if column == "runs" else "right")
    for group in groups:
        numbers = [cell(group[name]) for name in ("teacher", "mean", "worst")]
        whole.add_row(group["name"], ", ".join(map(str, group["seeds"])), *numbers, format_quantity(group["passes"]["mean"]))
    points = Table()
    points.add_column("sub-network", no_wrap=True)
    for index, group in enumerate(groups):
        points.add_column(group["name"], justify="right")
        if index:
            points.add_column("difference", justify="right")
    for name in found["points"]:
        cells = []
        for index, group in enumerate(groups):
            cells += [cell(group["points"][name]), *([f"{group['difference'][name]:+.2f}"] if index else [])]
        points.add_row(name, *cells)
    return [whole, points]


COMPARISON_CAPTION = (
    "± is the standard deviation over seeds; the cost is in passes of one example, forward and backward, through the full-size "
    "model; a teacher's pass counts as a third"
)


def plot_comparison(found: Mapping[str, Any], path: Path) -> None:
    """The metric at each point, a line for each group with its spread, and the differences from the first group."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups, points = found["groups"], found["points"]
    figure, panels = pyplot.subplots(2, 1, figsize=(max(7, 0.7 * len(points)), 7), sharex=True, layout="constrained")
    for index, group in enumerate(groups):
        values = [group["points"][name] for name in points]
        spread = [value["spread"] for value in values]
        places = [i + 0.06 * (index - (len(groups) - 1) / 2) for i in range(len(points))]
        label = group["name"] if len(group["runs"]) == 1 else f"{group['name']}, {len(group['runs'])} seeds"
        panels[0].errorbar(places, [v["mean"] for v in values], spread, fmt="o", capsize=3, color=f"C{index}", label=label)
        panels[0].axhline(group["teacher"]["mean"], color=f"C{index}", linewidth=1, linestyle=":")
        panels[1].plot(
            range(len(points)), [group["difference"][name] for name in points], "o-", color=f"C{index}", markersize=4
        )
    panels[0].set_ylabel(measure_of(found).titled(f"{found['metric']} on {found['split']}") + "\n(dotted: teacher)")
    panels[1].set_ylabel(f"difference from {groups[0]['name']}")
    panels[1].set_xticks(range(len(points)), points, rotation=45, ha="right")
    panels[0].legend(frameon=False, fontsize=9)
    for panel in panels:
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=150, format="png")
    pyplot.close(figure)
