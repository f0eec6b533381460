"""Compare finished runs: metrics of each sub-network and of all, and the cost of training."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimformer.errors import RunError
from slimformer.files import read_lines
from slimformer.recipe.table import differences, to_table
from slimformer.reports.comparison import Comparison, RunGroup, Summary
from slimformer.reports.json_shapes import number, table, text
from slimformer.reports.run_results import RunResults
from slimformer.runs.folder import RunFolder
from slimformer.runs.outcome import read_results
from slimformer.runs.recipe_file import recipe_of
from slimformer.tasks.base import Measure

SEED_KEYS = ("seed", "name")
"""What may differ in the recipes of runs that repeat each other."""


@dataclass(frozen=True)
class Finished:
    """A finished run: its folder, its recipe as a table, its results, and the passes that its training cost."""

    path: Path
    recipe: Mapping[str, Any]
    results: RunResults
    passes: float


def compare(folders: Sequence[RunFolder]) -> Comparison:
    """Compare finished runs; those that repeat one recipe with other seeds are one group, and differences are from the first.

    Raises: RunError where a run is not finished, is damaged, or cannot be compared with the first.
    """
    runs = [_finished(folder) for folder in folders]
    first = runs[0].results
    for run in runs[1:]:
        if (run.results.metric, run.results.split) != (first.metric, first.split):
            raise RunError(
                f"{run.path} is rated by {run.results.metric} on {run.results.split}, {runs[0].path} by "
                f"{first.metric} on {first.split}: compare runs of one task"
            )
        if [row.name for row in run.results.rows] != [row.name for row in first.rows]:
            raise RunError(f"{run.path} and {runs[0].path} have other sub-networks: compare runs of one [space]")
    members = _repetitions(runs)
    reference = _points(members[0])
    groups = tuple(_group(group, first.measure(), reference) for group in members)
    return Comparison(first.metric, first.split, first.measure(), groups)


def _finished(folder: RunFolder) -> Finished:
    recipe, results = to_table(recipe_of(folder)), read_results(folder)
    try:
        return Finished(folder.path, recipe, results, _passes(folder, recipe, results))
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{folder.metrics} is damaged ({error}): remove it, then the training cost counts as 0") from None


def _passes(folder: RunFolder, recipe: Mapping[str, Any], results: RunResults) -> float:
    """Training cost: passes of one example, forward and backward, through the full-size model; a teacher's pass is a third.

    Sub-networks count by their share of the full-size model's FLOPs. Samplers that draw are taken at their mean.
    """
    rows = [_logged(row) for row in read_lines(folder.metrics)]
    shares = _shares(results)
    total = 0.0
    for stage in ({"name": "finetune", "axes": [], "training": recipe["finetune"]}, *recipe["stage"]):
        steps = _steps([row for row in rows if row["stage"] == stage["name"]], stage["training"])
        total += (
            steps * recipe["machine"]["batch_size"] * recipe["machine"]["gradient_accumulation"] * _per_example(stage, shares)
        )
    return total


def _logged(value: object) -> dict[str, Any]:
    """A line of the metrics log.

    Raises: ValueError where it has another shape.
    """
    row = table(value, "a line")
    text(row.get("stage"), "stage")
    number(row.get("step"), "step")
    number(row.get("epoch", 0.0), "epoch")
    return row


def _steps(rows: Sequence[Mapping[str, Any]], training: Mapping[str, Any]) -> int:
    """Optimizer steps of a stage, from its last logged line: the step, and the epoch that it had reached."""
    if not rows:
        return 0
    last = rows[-1]
    if training["max_steps"] or not last.get("epoch"):
        return max(training["max_steps"], last["step"])
    return round(training["epochs"] * last["step"] / last["epoch"])


def _shares(results: RunResults) -> dict[tuple[tuple[str, float], ...], float]:
    """Each point's share of the full-size model's FLOPs (or of the first cost, where those were not asked for)."""
    cost = "flops" if "flops" in results.costs else next(iter(results.costs))
    whole = max(row.costs[cost] for row in results.rows) or 1.0
    return {tuple(row.ratios.items()): row.costs[cost] / whole for row in results.rows}


def _per_example(stage: Mapping[str, Any], shares: Mapping[tuple[tuple[str, float], ...], float]) -> float:
    """Full-size passes that one example costs in a step of the stage."""
    grid = {
        point: share
        for point, share in shares.items()
        if all(ratio == max(dict(p)[axis] for p in shares) for axis, ratio in point if axis not in stage["axes"])
    }
    students = _students(stage.get("sampler", {"name": "largest"}), list(grid.values()))
    taught = any(term["name"] not in ("labels",) for term in stage.get("terms", ()))
    if not taught or stage["teacher"] == "largest":
        return students
    follows = {tuple((axis, ratio) for axis, ratio in point if axis in stage["follow"]) for point in grid}
    teachers = [max(share for point, share in shares.items() if set(follow) <= set(point)) for follow in follows]
    return students + sum(teachers) / 3


def _students(sampler: Mapping[str, Any], shares: Sequence[float]) -> float:
    mean = sum(shares) / len(shares)
    drawn = sampler.get("num_random", 0)
    return {
        "every": sum(shares),
        "largest": max(shares),
        "one": mean,
        "sandwich": max(shares) + drawn * mean + min(shares),
        "uniform": max(shares) + drawn * mean,
    }.get(sampler["name"], sum(shares))


def _repetitions(runs: Sequence[Finished]) -> list[list[Finished]]:
    """The runs in groups whose recipes differ in nothing but the seed."""
    groups: list[list[Finished]] = []
    for run in runs:
        for group in groups:
            changed = {line.split(":")[0] for line in differences(group[0].recipe, run.recipe)}
            if changed <= set(SEED_KEYS) and run.recipe["seed"] not in (other.recipe["seed"] for other in group):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def _points(runs: Sequence[Finished]) -> dict[str, Summary]:
    """The main metric of each sub-network over runs."""
    values = [{row.name: run.results.value(row) for row in run.results.rows} for run in runs]
    return {name: _summary([found[name] for found in values]) for name in values[0]}


def _group(runs: Sequence[Finished], measure: Measure, reference: Mapping[str, Summary]) -> RunGroup:
    values = [[run.results.value(row) for row in run.results.rows] for run in runs]
    points = _points(runs)
    return RunGroup(
        name=runs[0].path.name if len(runs) == 1 else runs[0].recipe["name"],
        runs=tuple(str(run.path) for run in runs),
        seeds=tuple(run.recipe["seed"] for run in runs),
        teacher=_summary([run.results.teacher_metric for run in runs]),
        mean=_summary([statistics.fmean(found) for found in values]),
        worst=_summary([min(found, key=measure.rating) for found in values]),
        passes=_summary([run.passes for run in runs]),
        points=points,
        difference={name: point.mean - reference[name].mean for name, point in points.items()},
    )


def _summary(values: Sequence[float]) -> Summary:
    return Summary(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0)
