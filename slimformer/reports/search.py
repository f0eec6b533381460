"""The outcome of a search as pictures: the Pareto front as PNG and as a page that explains itself, the winner by layer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.table import Table

from slimformer.costs.quantity import format_cost
from slimformer.reports.escape import for_html, for_rich
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Topology

Outcome = Mapping[str, Any]

Row = Mapping[str, Any]

WIDTH, HEIGHT, MARGIN = 860, 460, 70
"""Pixels of the page's chart."""


def main_cost(outcome: Outcome) -> str:
    """The cost that the pictures show: the one to be lowest, or the first limit's, or the first one."""
    limited = [limit.partition(" ")[0] for limit in outcome["limits"]]
    return str((*([outcome["minimise"]] if outcome["minimise"] else []), *limited, *outcome["costs"])[0])


def front(rows: Sequence[Row], cost: str) -> list[Row]:
    """The candidates that no cheaper one equals or beats, the cheapest first."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["costs"][cost], -row["rating"])):
        if not found or row["rating"] > found[-1]["rating"]:
            found.append(row)
    return found


def is_uniform(row: Row) -> bool:
    return not row["name"].startswith("layers-")


def span(outcome: Outcome) -> tuple[float, float]:
    """The ratings that the pictures show: all, but for those so far below the lower quartile that they would squash the rest."""
    ordered = sorted(row["rating"] for row in outcome["candidates"])
    high, quartile = ordered[-1], ordered[len(ordered) // 4]
    low = next(rating for rating in ordered if rating >= quartile - 2 * (high - quartile))
    return min(low, outcome["winner"]["rating"]), high


def plot_front(outcome: Outcome, path: Path) -> None:
    """Rating against the main cost: uniform and per-layer candidates, the Pareto front, the winner."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    cost, rows = main_cost(outcome), outcome["candidates"]
    unit = outcome["costs"][cost]
    figure, panel = pyplot.subplots(figsize=(8, 5), layout="constrained")
    low, high = span(outcome)
    below = [row for row in rows if row["rating"] < low]
    for title, mark, chosen in (
        ("per-layer", "o", [row for row in rows if not is_uniform(row) and row not in below]),
        ("uniform", "s", [row for row in rows if is_uniform(row) and row not in below]),
        ("below the picture", "v", below),
    ):
        if chosen:
            ratings = [max(low, row["rating"]) for row in chosen]
            panel.plot([row["costs"][cost] for row in chosen], ratings, mark, alpha=0.7, label=title)
    best = [row for row in front(rows, cost) if row not in below]
    panel.set_ylim(low - 0.05 * (high - low or 1.0), high + 0.05 * (high - low or 1.0))
    panel.step([row["costs"][cost] for row in best], [row["rating"] for row in best], "-", where="post", label="Pareto front")
    winner = outcome["winner"]
    panel.plot(winner["costs"][cost], winner["rating"], "*", markersize=16, color="black", label="winner")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_cost(value, unit)))
    panel.set_xlabel(_axis(outcome, cost))
    panel.set_ylabel(outcome["rating"])
    panel.set_title(
        f"{outcome['name']}: {len(rows)} candidates" + (f", {' and '.join(outcome['limits'])}" * bool(outcome["limits"]))
    )
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    figure.savefig(path, dpi=150, format="png")
    pyplot.close(figure)


def _axis(outcome: Outcome, cost: str) -> str:
    unit, work = outcome["costs"][cost], outcome["workload"]
    return f"{cost}, {unit}" + ("" if unit == "parameters" else f"; batch {work['batch_size']}, length {work['length']}")


def plot_layers(topology: Topology, spec: SubnetSpec, name: str, path: Path) -> None:
    """A row for each axis of units, a column for each block: the share of units that remains; dropped blocks are hatched."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = list(dict.fromkeys(group.axis for group in topology.groups))
    places = [(stack.name, block) for stack in topology.stacks for block in range(stack.num_blocks)]
    places += [("", -1)] if any(group.name not in topology.owner for group in topology.groups) else []
    figure, panels = pyplot.subplots(
        len(axes), 1, figsize=(max(6.0, 0.8 * len(places)), 2.2 * len(axes) + 0.8), squeeze=False, layout="constrained"
    )
    for axis, panel in zip(axes, panels[:, 0], strict=True):
        for group in (group for group in topology.groups if group.axis == axis):
            column = places.index(topology.owner.get(group.name, ("", -1)))
            units = spec.units.get(group.name, 0)
            panel.bar(column, 1, color="white", edgecolor="grey", hatch="" if units else "///", linewidth=0.8)
            panel.bar(column, units / group.num_units, color="C0" if units == group.num_units else "C1")
            said = f"{units}\n/{group.num_units}" if units else "dropped"
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
            panel.text(column, 0.5, said, ha="center", va="center", fontsize=8, bbox=box)
        panel.set_xticks(range(len(places)), [f"{stack}.{block}" if stack else "outside" for stack, block in places])
        panel.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        panel.set_ylabel(axis)
    figure.suptitle(f"{name}: units that remain in each block")
    figure.savefig(path, dpi=150, format="png")
    pyplot.close(figure)


def page(outcome: Outcome) -> str:
    """A page of HTML that needs nothing else: the chart as SVG, a candidate's spec and costs where the pointer is, a table."""
    rows, cost = outcome["candidates"], main_cost(outcome)
    title = f"{for_html(outcome['name'])}: {len(rows)} candidates"
    limits = for_html(" and ".join(outcome["limits"]) or "no limit")
    details = json.dumps([_details(outcome, row) for row in rows]).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px system-ui, sans-serif; margin: 2em; max-width: 1000px; color: #222 }}
svg {{ border: 1px solid #ddd }} circle, rect.point, path {{ cursor: pointer }} circle:hover, rect.point:hover, path:hover {{ stroke: #000; stroke-width: 2 }}
#spec {{ white-space: pre; font: 12px ui-monospace, monospace; background: #f6f6f6; padding: .8em; min-height: 6em }}
table {{ border-collapse: collapse }} td, th {{ padding: .2em .8em; text-align: right }} td:first-child {{ text-align: left }}
tr:hover {{ background: #eef }}
</style></head><body>
<h1>{title}</h1>
<p>{limits}; strategy {for_html(outcome["strategy"])}; rating: {for_html(outcome["rating"])}.
Circles are per-layer, squares uniform sub-networks, triangles lie below the picture; the line is the Pareto front, the ring the
winner.</p>
{_chart(outcome, cost)}
<div id="spec">Point at a candidate to see its spec.</div>
{_table(outcome)}
<script>
const details = {details};
document.querySelectorAll("[data-row]").forEach(part => part.addEventListener("mouseenter", () => {{
  document.getElementById("spec").textContent = details[+part.dataset.row];
}}));
</script></body></html>
"""


def _details(outcome: Outcome, row: Row) -> str:
    costs = ", ".join(f"{name} {format_cost(value, outcome['costs'][name])}" for name, value in row["costs"].items())
    blocks = "; ".join(f"{stack}: blocks {' '.join(map(str, kept))}" for stack, kept in row["spec"]["blocks"].items())
    axes: dict[str, list[str]] = {}
    for group, units in row["spec"]["units"].items():
        axes.setdefault(group.rpartition(".")[2], []).append(str(units))
    sizes = "\n".join(f"{axis}: {' '.join(sizes)}" for axis, sizes in axes.items())
    return f"{row['name']}  rating {row['rating']:.4g}\n{costs}\n{blocks}\n{sizes}"


def _chart(outcome: Outcome, cost: str) -> str:
    rows, unit = outcome["candidates"], outcome["costs"][cost]
    low, _ = span(outcome)
    xs, ys = [row["costs"][cost] for row in rows], [max(low, row["rating"]) for row in rows]
    across, up = _scale(xs, MARGIN, WIDTH - 20), _scale(ys, HEIGHT - 50, 26)
    marks = []
    for index, row in enumerate(rows):
        x, y = across(xs[index]), up(ys[index])
        tip = f"<title>{for_html(_details(outcome, row))}</title>"
        if row["rating"] < low:
            marks.append(
                f'<path data-row="{index}" d="M{x - 6:.1f} {y - 5:.1f}h12l-6 11z" fill="#888" fill-opacity=".7">{tip}</path>'
            )
        elif is_uniform(row):
            marks.append(
                f'<rect class="point" data-row="{index}" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="#d95f02">{tip}</rect>'
            )
        else:
            marks.append(
                f'<circle data-row="{index}" cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#1f77b4" fill-opacity=".7">{tip}</circle>'
            )
    best = [(across(row["costs"][cost]), up(row["rating"])) for row in front(rows, cost) if row["rating"] >= low]
    corners = [(x, y) for (_, y), (x, _) in pairwise(best)]
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in sorted([*best, *corners], key=lambda point: (point[0], -point[1])))
    winner = outcome["winner"]
    ring = (
        f'<circle cx="{across(winner["costs"][cost]):.1f}" cy="{up(winner["rating"]):.1f}" r="10" fill="none" stroke="#000"/>'
    )
    ticks = [_tick(across(x), HEIGHT - 28, format_cost(x, unit), "middle") for x in _stops(xs)]
    ticks += [_tick(MARGIN - 8, up(y) + 4, f"{y:.4g}", "end") for y in _stops(ys)]
    label = _tick((WIDTH + MARGIN) / 2, HEIGHT - 8, _axis(outcome, cost), "middle")
    label += _tick(8, 16, outcome["rating"], "start")
    line = f'<polyline points="{steps}" fill="none" stroke="#2ca02c" stroke-width="1.5"/>'
    return f'<svg width="{WIDTH}" height="{HEIGHT}" role="img">{line}{"".join(ticks)}{label}{ring}{"".join(marks)}</svg>'


def _scale(values: Sequence[float], start: float, end: float) -> Any:
    low, high = min(values), max(values)
    spread = (high - low) or 1.0

    def place(value: float) -> float:
        return start + (end - start) * (0.04 + 0.92 * (value - low) / spread)

    return place


def _stops(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [low + (high - low) * part / 4 for part in range(5)] if high > low else [low]


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12" fill="#444">{for_html(text)}</text>'


def _table(outcome: Outcome) -> str:
    names = list(outcome["costs"])
    head = "".join(f"<th>{for_html(name)}</th>" for name in ("sub-network", *names, outcome["rating"]))
    body = "".join(
        f'<tr data-row="{index}"><td>{for_html(row["name"])}</td>'
        + "".join(f"<td>{format_cost(row['costs'][name], outcome['costs'][name])}</td>" for name in names)
        + f"<td>{row['rating']:.4f}</td></tr>"
        for index, row in enumerate(outcome["candidates"])
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


SHOWN = 20
"""Candidates that the terminal shows; search.json has them all."""


def candidates_table(outcome: Mapping[str, Any]) -> Table:
    """Candidates of a search, the best first, with all costs and the rating on the probe."""
    rows = outcome["candidates"]
    work = outcome["workload"]
    table = Table(
        title=for_rich(" and ".join(outcome["limits"]) or "no limit"),
        caption=f"costs at batch {work['batch_size']}, length {work['length']}; "
        + for_rich("; ".join(f"{name}: {unit}" for name, unit in outcome["costs"].items()))
        + (f"; the best {SHOWN} of {len(rows)}" if len(rows) > SHOWN else ""),
    )
    table.add_column("sub-network", no_wrap=True)
    for cost in outcome["costs"]:
        table.add_column(for_rich(cost), justify="right")
    table.add_column(for_rich(outcome["rating"]), justify="right")
    for index, row in enumerate(rows[:SHOWN]):
        costs = (format_cost(value, outcome["costs"][name]) for name, value in row["costs"].items())
        table.add_row(for_rich(row["name"]), *costs, f"{row['rating']:.4f}", style="bold" if index == 0 else "")
    return table


def search_lines(outcome: Mapping[str, Any], folder: Any) -> list[Any]:
    """What a search found, for people: the table, the winner beside the best uniform sub-network, what to do next."""
    from slimformer.reports.results import measure_of

    metric, split, measure = outcome["metric"], outcome["split"], measure_of(outcome)
    lines: list[Any] = [candidates_table(outcome)]
    for title in ("winner", "uniform"):
        if outcome[title]:
            said = {"winner": "best", "uniform": "best uniform one"}[title]
            lines.append(
                f"{said}: {outcome[title]['name']}, {metric} on {split} {measure.text(outcome[title]['metrics'][metric])}"
            )
    if outcome.get("solver"):
        solver = outcome["solver"]
        rated = "rated" if solver["rated"] else "not rated"
        lines.append(f"exact solver: optimality gap {solver['gap']:.2g}, {solver['seconds']:.2f} s; its optimum was {rated}")
    if "finetuned" in outcome:
        tuned, before = outcome["finetuned"], outcome["finetuned"]["metrics"]["before"][metric]
        after = tuned["metrics"]["after"][metric]
        lines.append(
            f"{tuned['steps']} steps alone: {metric} on {split} {before:.2f} -> {measure.text(after)}; it is in {tuned['folder']}"
        )
    search = f"{folder}/search"
    lines.append(f"pictures: {search}/pareto.html, {search}/pareto.png, {search}/winner.png")
    lines.append(f"cut it out: slimformer export --run {folder} --subnet {outcome['spec_file']} --to FOLDER")
    lines.append(f"score it: slimformer evaluate --run {folder} --subnet {outcome['spec_file']}")
    return [for_rich(line) if isinstance(line, str) else line for line in lines]
