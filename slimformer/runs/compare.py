"""Finished runs side by side: what their sub-networks reach, at each point and as a whole, and what the training cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slimformer.errors import RunError
from slimformer.files import read_lines
from slimformer.recipe.table import differences, to_table
from slimformer.reports.results import measure_of, row_metric, teacher_metric
from slimformer.runs.folder import RunFolder
from slimformer.tasks.base import Measure

SEED_KEYS = ("seed", "name")
"""What may differ in the recipes of runs that repeat each other."""


@dataclass(frozen=True)
class Finished:
    """A finished run: its folder, its recipe as a table, its results, and the passes that its training cost."""

    path: Path
    recipe: Mapping[str, Any]
    results: Mapping[str, Any]
    passes: float


def compare(folders: Sequence[RunFolder]) -> dict[str, Any]:
    """The runs in groups, the repetitions of one recipe with other seeds together; the first group is what others differ from.

    Returns: the metric and how it is read, the split, the names of the points, and for each group every number as
    {mean, spread}, the spread being the standard deviation over its runs (0 for one run).
    Raises: RunError where a run is not finished or cannot be compared with the first.
    """
    runs = [_finished(folder) for folder in folders]
    first = runs[0].results
    for run in runs[1:]:
        for what in ("metric", "split"):
            if run.results[what] != first[what]:
                raise RunError(
                    f"{run.path} is rated by {run.results['metric']} on {run.results['split']}, {runs[0].path} by "
                    f"{first['metric']} on {first['split']}: compare runs of one task"
                )
        if [row["name"] for row in run.results["rows"]] != [row["name"] for row in first["rows"]]:
            raise RunError(f"{run.path} and {runs[0].path} have other sub-networks: compare runs of one [space]")
    measure = measure_of(first)
    groups = [_group(members, measure) for members in _repetitions(runs)]
    for group in groups:
        group["difference"] = {
            name: point["mean"] - groups[0]["points"][name]["mean"] for name, point in group["points"].items()
        }
    about = {"metric": first["metric"], "split": first["split"], "measures": {first["metric"]: asdict(measure)}}
    return about | {"points": list(groups[0]["points"]), "groups": groups}


def _finished(folder: RunFolder) -> Finished:
    recipe = to_table(folder.recipe())
    return Finished(folder.path, recipe, folder.read_results(), _passes(folder, recipe))


def _passes(folder: RunFolder, recipe: Mapping[str, Any]) -> float:
    """Training cost: passes of one example, forward and backward, through the full-size model; a teacher's pass is a third.

    Sub-networks count by their share of the full-size model's FLOPs. Samplers that draw are taken at their mean.
    """
    rows = read_lines(folder.metrics)
    shares = _shares(folder.read_results())
    total = 0.0
    for stage in ({"name": "finetune", "axes": [], "training": recipe["finetune"]}, *recipe["stage"]):
        steps = _steps([row for row in rows if row["stage"] == stage["name"]], stage["training"])
        total += (
            steps * recipe["machine"]["batch_size"] * recipe["machine"]["gradient_accumulation"] * _per_example(stage, shares)
        )
    return total


def _steps(rows: Sequence[Mapping[str, Any]], training: Mapping[str, Any]) -> int:
    """Optimizer steps of a stage, from its last logged line: the step, and the epoch that it had reached."""
    if not rows:
        return 0
    last = rows[-1]
    if training["max_steps"] or not last.get("epoch"):
        return max(training["max_steps"], last["step"])
    return round(training["epochs"] * last["step"] / last["epoch"])


def _shares(results: Mapping[str, Any]) -> dict[tuple[tuple[str, float], ...], float]:
    """Each point's share of the full-size model's FLOPs (or of the first cost, where those were not asked for)."""
    cost = "flops" if "flops" in results["costs"] else next(iter(results["costs"]))
    whole = max(row["costs"][cost] for row in results["rows"])
    return {tuple(row["ratios"].items()): row["costs"][cost] / whole for row in results["rows"]}


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


def _group(runs: Sequence[Finished], measure: Measure) -> dict[str, Any]:
    points = [{row["name"]: row_metric(run.results, row) for row in run.results["rows"]} for run in runs]
    return {
        "name": runs[0].path.name if len(runs) == 1 else runs[0].recipe["name"],
        "runs": [str(run.path) for run in runs],
        "seeds": [run.recipe["seed"] for run in runs],
        "teacher": _summary([teacher_metric(run.results) for run in runs]),
        "mean": _summary([statistics.fmean(values.values()) for values in points]),
        "worst": _summary([min(values.values(), key=measure.rating) for values in points]),
        "passes": _summary([run.passes for run in runs]),
        "points": {name: _summary([values[name] for values in points]) for name in points[0]},
    }


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "spread": statistics.stdev(values) if len(values) > 1 else 0.0}
