"""Results of a run as text and pictures: a table, CSV, a model card, and the main metric against each cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from slimformer.costs.quantity import format_cost
from slimformer.reports.escape import for_markdown, for_rich
from slimformer.reports.run_results import ResultRow, RunResults
from slimformer.tasks.base import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SNAPSHOT_TITLES = {"base": "sliced", "rewired": "rewired"}
"""Column titles of the ratings before any stage: the fine-tuned model merely sliced, and sliced after rewiring."""


def measure_of(found: Mapping[str, Any], metric: str = "") -> Measure:
    """How a metric of a JSON document is read; its main one unless named."""
    measure = found.get("measures", {}).get(metric or found["metric"])
    return Measure(**measure) if measure else Measure()


def to_csv(results: RunResults) -> str:
    """A line for each sub-network: ratios, costs, every metric on every split, the main metric at earlier points."""
    rows = []
    for row in results.rows:
        metrics = {f"{split}/{name}": v for split, found in row.metrics.items() for name, v in found.items()}
        earlier = {f"{name}/{results.metric}": row.snapshots[name] for name in results.earlier}
        rows.append({"name": row.name, **row.ratios, **row.costs, **metrics, **earlier})
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def plot(results: RunResults, path: Path) -> None:
    """Draw the main metric against each cost that is no multiple of another: a line for each depth, the teacher, the baselines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogFormatter

    costs = distinct_costs(results)
    figure, panels = pyplot.subplots(
        1, len(costs), figsize=(6 * len(costs), 4.5), sharey=True, squeeze=False, layout="constrained"
    )
    for cost, panel in zip(costs, panels[0], strict=True):
        _panel(panel, results, cost)
    panels[0][0].set_ylabel(results.measure().titled(f"{results.metric} on {results.split}"))
    if results.measure().lower_is_better:  # without an upper end, sub-networks that are merely sliced lie far out
        panels[0][0].set_yscale("log")
        panels[0][0].yaxis.set_major_formatter(LogFormatter())
        panels[0][0].yaxis.set_minor_formatter(LogFormatter())
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=9)
    figure.suptitle(f"{results.name}: {len(results.rows)} sub-networks of one model")
    figure.savefig(path, dpi=150, format="png")
    pyplot.close(figure)


def distinct_costs(results: RunResults) -> list[str]:
    """The costs without those that are a multiple of an earlier one, as multiply-adds are of FLOPs."""
    kept: dict[str, list[float]] = {}
    for cost in results.costs:
        values = [row.costs[cost] for row in results.rows]
        shares = [value / max(values) for value in values]
        if not any(all(map(isclose, shares, others)) for others in kept.values()):
            kept[cost] = shares
    return list(kept)


def _panel(panel: Axes, results: RunResults, cost: str) -> None:
    from matplotlib.ticker import FuncFormatter

    for index, (title, rows) in enumerate(_lines(results.rows).items()):
        xs = [row.costs[cost] for row in rows]
        panel.plot(xs, [results.value(row) for row in rows], "o-", color=f"C{index}", label=title)
        for name, style in zip(results.earlier, (":", "--", "-."), strict=False):
            ys = [row.snapshots[name] for row in rows]
            label = f"{SNAPSHOT_TITLES.get(name, f'after {name}')}{', untrained' if name in SNAPSHOT_TITLES else ''}"
            panel.plot(xs, ys, style, color=f"C{index}", alpha=0.45, linewidth=1, label=label if index == 0 else None)
    panel.axhline(results.teacher_metric, color="black", linewidth=1, label="teacher")
    for name, scores in results.baselines.items():
        panel.axhline(scores[results.metric], color="grey", linewidth=1, linestyle=(0, (1, 3)))
        panel.annotate(
            name, (0.99, scores[results.metric]), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8
        )
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_cost(value, results.costs[cost])))
    panel.set_xlabel(_axis_title(results, cost))
    panel.grid(alpha=0.3)


def _axis_title(results: RunResults, cost: str) -> str:
    unit, work = results.costs[cost], results.workload
    if unit == "parameters":
        return "parameters"
    return f"{unit}, batch {work.batch_size}, length {work.length}"


def _lines(rows: Sequence[ResultRow]) -> dict[str, list[ResultRow]]:
    """The rows by their ratios on all axes but the first, which varies along a line."""
    lines: dict[str, list[ResultRow]] = {}
    for row in rows:
        rest = list(row.ratios.items())[1:]
        lines.setdefault(", ".join(f"{axis} {ratio:g}" for axis, ratio in rest) or "sub-networks", []).append(row)
    return lines


def model_card(results: RunResults) -> str:
    """A model card: front matter, the table, and how to cut out and load a sub-network."""
    costs, metric = list(results.costs), results.metric
    measure = results.measure()
    header = ["sub-network", *map(for_markdown, costs), for_markdown(measure.titled(metric)), "of the teacher's, %"]
    teacher = results.teacher_metric
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for row in results.rows:
        value = results.value(row)
        share = f"{100 * value / teacher:.1f}" if teacher else "-"
        cells = [for_markdown(row.name), *(format_cost(row.costs[c], results.costs[c]) for c in costs), f"{value:.2f}", share]
        lines.append(f"| {' | '.join(cells)} |")
    units = "; ".join(f"{name}: {unit}" for name, unit in results.costs.items())
    work = results.workload
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags: [slimformer, slimmable, dynabert]",
            "---",
            f"# {for_markdown(results.name)}",
            "",
            f"One super-network that holds {len(results.rows)} sub-networks, made by slimformer.",
            f"Rated on {for_markdown(results.split)}; the fine-tuned teacher has {for_markdown(metric)} {measure.text(teacher)}"
            + (", lower is better." if measure.lower_is_better else "."),
            f"Costs at batch {work.batch_size}, length {work.length}; {for_markdown(units)}.",
            "",
            *lines,
            "",
            "![metric against cost](pareto.png)",
            "",
            "Cut out a sub-network as a plain model: `slimformer export --run . --subnet NAME --to FOLDER`.",
            "`supernet/` is the full-size model in transformers' own format; `recipe.toml` makes all of this again.",
            "",
        ]
    )


def results_table(results: RunResults) -> Table:
    """The sub-networks of a run: costs, the main metric, its share of the teacher's, and the ratings at earlier points."""

    metric, teacher, measure = results.metric, results.teacher_metric, results.measure()
    work = results.workload
    table = Table(
        title=for_rich(measure.titled(f"{results.name}: {metric} on {results.split}"))
        + ", lower is better" * measure.lower_is_better,
        caption=f"costs at batch {work.batch_size}, length {work.length}; "
        + for_rich("; ".join(f"{name}: {unit}" for name, unit in results.costs.items())),
    )
    earlier = results.earlier
    table.add_column("sub-network", no_wrap=True)
    for name in (*results.costs, *(SNAPSHOT_TITLES.get(name, f"after {name}") for name in earlier), metric, "of teacher"):
        table.add_column(for_rich(name), justify="right")
    for row in results.rows:
        value = results.value(row)
        share = f"{100 * value / teacher:.1f} %" if teacher else "-"
        costs = [format_cost(row.costs[name], unit) for name, unit in results.costs.items()]
        table.add_row(for_rich(row.name), *costs, *(f"{row.snapshots[n]:.2f}" for n in earlier), f"[bold]{value:.2f}[/]", share)
    table.add_section()
    blanks = [""] * (len(results.costs) + len(earlier))
    table.add_row("fine-tuned teacher", *blanks, f"{teacher:.2f}", "")
    for name, scores in results.baselines.items():
        table.add_row(for_rich(f"baseline: {name}"), *blanks, f"{scores[metric]:.2f}", "")
    return table
