"""Beginning a run with the finished steps of another one: what both recipes make alike is copied instead of made again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from slimformer.errors import RunError
from slimformer.files import read_lines, write_text, write_whole, writing
from slimformer.recipe.schema import Recipe
from slimformer.recipe.table import differences, to_table
from slimformer.runs.folder import RunFolder
from slimformer.runs.recipe_file import recipe_of

UNSEEN = ("save_steps", "log_steps", "workers", "trackers")
"""The options of [machine] that change nothing in what is learnt."""

BRIEF = 100
"""The longest difference that a line for the user shows whole."""


def shared_steps(recipe: Recipe, source: RunFolder) -> tuple[tuple[str, ...], list[str]]:
    """The steps of a run that a recipe can begin with, and what keeps it from taking the next one.

    Law: a step is shared only if it is finished there, every earlier one is shared, and both recipes say the same of all that
    decides its outcome: the seed, model, task, fine-tuning and machine for "base"; importance and rewiring for "rewiring";
    the stage itself and the ratios of its axes for a stage. A component whose code changed under the same name is not noticed.
    Returns: the names, for example ("base", "rewiring", "width"), and differences as "key.path: there -> here".
    Raises: RunError where the folder holds no run.
    """
    steps: list[str] = []
    done, theirs = source.done(), dict(_deciding(recipe_of(source)))
    for step, mine in _deciding(recipe):
        other = differences(theirs.get(step, {}), mine) if step in done else [f"{step!r} is not finished there"]
        if other:
            return tuple(steps), other
        steps.append(step)
    return tuple(steps), []


def take_over(recipe: Recipe, folder: RunFolder, source: RunFolder) -> str:
    """Copy the steps that a recipe shares with another run into its own folder, if that has no finished step yet.

    Returns: what was done, as a line for the user; empty where the folder goes on with steps of its own.
    Raises: RunError where nothing is shared.
    """
    if folder.path.resolve() == source.path.resolve():
        raise RunError(f"--from {source.path} is the run folder itself: without --from the run goes on there")
    if folder.done():
        return ""
    steps, other = shared_steps(recipe, source)
    if not steps:
        raise RunError(f"--from {source.path} shares no step with this recipe ({_brief(other)}): run it without --from")
    with writing(folder.path):
        for path in (path for step in steps for path in _outcomes(source, step) if path.exists()):
            write_whole(folder.path / path.relative_to(source.path), partial(_copy, path))
        for step in steps:
            folder.drop_checkpoints(_training(step))
        stages = {_training(step) for step in steps}
        snapshots = {"rewired" if step == "rewiring" else step for step in steps}
        _copy_lines(source.metrics, folder.metrics, "stage", stages)
        _copy_lines(source.ratings, folder.ratings, "snapshot", snapshots)
    folder.mark(*steps)
    anew = f"; made anew: what comes after, as {_brief(other)}" if other else ""
    return f"taken over from {source.path}: {', '.join(steps)}{anew}"


def _deciding(recipe: Recipe) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every step of a recipe in order, with the part of the recipe that decides it beyond the steps before."""
    table = to_table(recipe)
    machine = {name: value for name, value in table["machine"].items() if name not in UNSEEN}
    yield "base", {name: table[name] for name in ("seed", "model", "task", "finetune")} | {"machine": machine}
    yield "rewiring", {name: table[name] for name in ("importance", "rewiring")}
    for stage in table["stage"]:
        space = {name: table["space"][name] for name in ("depth_policy", *stage["axes"])}
        yield stage["name"], {"stage": {stage["name"]: stage}, "space": space}


def _brief(other: Sequence[str]) -> str:
    """The first differences; of one that is long only its key."""
    return "; ".join(line if len(line) <= BRIEF else line.partition(":")[0] + " differs" for line in other[:3])


def _training(step: str) -> str:
    """What the training that makes a step is called in the metrics."""
    return "finetune" if step == "base" else step


def _outcomes(source: RunFolder, step: str) -> tuple[Path, ...]:
    if step == "rewiring":
        return source.rewiring, source.scores
    return source.model(step), source.tensorboard / _training(step)


def _copy(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        shutil.copyfile(path, to)


def _copy_lines(path: Path, to: Path, key: str, values: set[str]) -> None:
    write_text(to, "".join(json.dumps(row) + "\n" for row in read_lines(path) if row[key] in values))
