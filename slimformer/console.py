"""What the command line shows: progress, tables. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from slimformer.quantity import format_cost, format_quantity

WIDE = 160
"""Columns of a table that no terminal shows, so that no cell is cut."""

out = Console() if Console().is_terminal else Console(width=WIDE)
err = Console(stderr=True)

PLAIN_SECONDS = 15.0
"""Without a terminal a line of progress is printed at most this often."""


class ConsoleReport:
    """Progress bars with loss, speed and time left on a terminal; plain lines elsewhere.

    quiet: say nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._last = 0.0
        self._note = ""
        self._first = self._done = self._total = 0
        self._since = 0.0

    def say(self, text: str) -> None:
        if not self._quiet:
            err.print(text, soft_wrap=True, highlight=False)

    def begin(self, stage: str, done: int, total: int) -> None:
        self._note, self._last = "", time.monotonic()
        self._first, self._done, self._total, self._since = done, done, total, time.monotonic()
        if self._quiet:
            return
        if err.is_terminal:
            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            )  # fmt: skip
            self._bars = Progress(*columns, console=err)
            self._bars.start()
            self._task = self._bars.add_task(stage, total=total, completed=done, note="")
        else:
            self.say(f"{stage}: from {done} of {total}")

    def advance(self, stage: str, step: int, logs: dict[str, float]) -> None:
        self._done = step if step >= 0 else self._done + 1
        if logs:
            self._note = _note(logs)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=self._done, note=f"{self._note} {self._speed():.2g}/s")
        elif not self._quiet and time.monotonic() - self._last > PLAIN_SECONDS:
            self._last = time.monotonic()
            left = _duration((self._total - self._done) / self._speed())
            self.say(f"{stage}: {self._done}/{self._total} {self._note} {self._speed():.2g}/s, {left} left")

    def _speed(self) -> float:
        """Steps a second since this process began or went on with the stage."""
        return max(1, self._done - self._first) / max(1e-9, time.monotonic() - self._since)

    def end(self, stage: str) -> None:
        if self._bars is not None:
            self._bars.stop()
        elif not self._quiet:
            self.say(f"{stage}: {self._done}/{self._total} {self._note} in {_duration(time.monotonic() - self._since)}")
        self._bars = self._task = None


def _note(logs: Mapping[str, float]) -> str:
    if "loss" in logs:
        return f"loss {logs['loss']:.4g}"
    return " ".join(f"{name} {value:.4g}" for name, value in logs.items())


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def results_table(results: Mapping[str, Any]) -> Table:
    """The sub-networks of a run: costs, the main metric, its share of the teacher's, and the ratings at earlier points."""
    from slimformer.results import SNAPSHOT_TITLES, measure_of, row_metric, snapshots, teacher_metric

    metric, teacher, measure = results["metric"], teacher_metric(results), measure_of(results)
    work = results["workload"]
    table = Table(
        title=measure.titled(f"{results['name']}: {metric} on {results['split']}")
        + ", lower is better" * measure.lower_is_better,
        caption=f"costs at batch {work['batch_size']}, length {work['length']}; "
        + "; ".join(f"{name}: {unit}" for name, unit in results["costs"].items()),
    )
    earlier = snapshots(results)
    table.add_column("sub-network", no_wrap=True)
    for name in (*results["costs"], *(SNAPSHOT_TITLES.get(name, f"after {name}") for name in earlier), metric, "of teacher"):
        table.add_column(name, justify="right")
    for row in results["rows"]:
        value = row_metric(results, row)
        share = f"{100 * value / teacher:.1f} %" if teacher else "-"
        costs = [format_cost(row["costs"][name], unit) for name, unit in results["costs"].items()]
        table.add_row(row["name"], *costs, *(f"{row['snapshots'][n]:.2f}" for n in earlier), f"[bold]{value:.2f}[/]", share)
    table.add_section()
    blanks = [""] * (len(results["costs"]) + len(earlier))
    table.add_row("fine-tuned teacher", *blanks, f"{teacher:.2f}", "")
    for name, scores in results["baselines"].items():
        table.add_row(f"baseline: {name}", *blanks, f"{scores[metric]:.2f}", "")
    return table


def comparison_tables(found: Mapping[str, Any]) -> list[Table]:
    """Groups of runs: what they reach as a whole and cost, then each sub-network, with differences from the first group."""
    from slimformer.results import measure_of

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


SHOWN = 20
"""Candidates that the terminal shows; search.json has them all."""


def candidates_table(outcome: Mapping[str, Any]) -> Table:
    """Candidates of a search, the best first, with all costs and the rating on the probe."""
    rows = outcome["candidates"]
    work = outcome["workload"]
    table = Table(
        title=" and ".join(outcome["limits"]) or "no limit",
        caption=f"costs at batch {work['batch_size']}, length {work['length']}; "
        + "; ".join(f"{name}: {unit}" for name, unit in outcome["costs"].items())
        + (f"; the best {SHOWN} of {len(rows)}" if len(rows) > SHOWN else ""),
    )
    table.add_column("sub-network", no_wrap=True)
    for cost in outcome["costs"]:
        table.add_column(cost, justify="right")
    table.add_column(outcome["rating"], justify="right")
    for index, row in enumerate(rows[:SHOWN]):
        costs = (format_cost(value, outcome["costs"][name]) for name, value in row["costs"].items())
        table.add_row(row["name"], *costs, f"{row['rating']:.4f}", style="bold" if index == 0 else "")
    return table


def search_lines(outcome: Mapping[str, Any], folder: Any) -> list[Any]:
    """What a search found, for people: the table, the winner beside the best uniform sub-network, what to do next."""
    from slimformer.results import measure_of

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
    return lines
