"""The run folder: the files of one execution of a recipe, and how they are read back.

recipe.toml         the recipe with every default and override spelled out
environment.json    versions, machine, command line
base/               the fine-tuned model, as transformers saves it
sources.json        size, time and hash of the files that the run reads
scores.safetensors  importance of each unit
stages/NAME/        the model after a stage; its checkpoints while it runs
supernet/           the finished super-network with its rewiring.json
metrics.jsonl       a line for each logged step
ratings.jsonl       a line for each sub-network rated on a split
results.json, results.csv, pareto.png, README.md    the outcome
search.json, search/    the outcome of the last search: candidates, pictures, the winner's spec
measured/           what measured costs found on this machine
done.json           the steps that are complete
traceback.txt       of the last unexpected error, if there was one
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimformer.errors import RunError
from slimformer.files import MEND, read_json, read_lines, remove, write_text, write_whole, writing
from slimformer.reports.json_shapes import items, shown, text
from slimformer.reports.run_results import RunResults

if TYPE_CHECKING:
    from torch import nn


class RunFolder:
    """The folder of one run. Every file is written whole or not at all, so that an interruption at any moment loses nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def sources(self) -> Path:
        return self.path / "sources.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def ratings(self) -> Path:
        return self.path / "ratings.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @property
    def supernet(self) -> Path:
        return self.path / "supernet"

    @property
    def rewiring(self) -> Path:
        return self.path / "rewiring.json"

    @property
    def scores(self) -> Path:
        return self.path / "scores.safetensors"

    @property
    def search(self) -> Path:
        return self.path / "search"

    @property
    def measured(self) -> Path:
        return self.path / "measured"

    def model(self, snapshot: str) -> Path:
        """Where the model of a point of the run lies: "base", or a stage's name."""
        return self.path / "base" if snapshot == "base" else self.path / "stages" / snapshot / "model"

    def checkpoints(self, stage: str) -> Path:
        return self.path / "stages" / stage / "checkpoints"

    def is_untouched(self) -> bool:
        """Whether nothing has been computed here yet: a run that failed at its data or weights may get another recipe."""
        names = {file.name for file in self.path.iterdir() if not file.name.startswith(".")}
        return names <= {"recipe.toml", "environment.json", "sources.json", "traceback.txt"}

    def done(self) -> set[str]:
        """The names of the steps that are complete; one whose outcome was removed is not."""
        file = self.path / "done.json"
        try:
            marked = {_step(step) for step in items(read_json(file), "the document")} if file.is_file() else set()
        except ValueError as error:
            raise RunError(f"{file} is damaged ({error}): {MEND}") from None
        return {step for step in marked if self._outcome(step).exists()}

    def _outcome(self, step: str) -> Path:
        return {"rewiring": self.rewiring, "supernet": self.supernet}.get(step) or self.model(step)

    def is_finished(self) -> bool:
        """Whether nothing is left to do here."""
        return self.results.is_file() and "supernet" in self.done()

    def mark(self, *steps: str) -> None:
        """Note that steps are complete."""
        with writing(self.path):
            write_text(self.path / "done.json", json.dumps(sorted(self.done() | {*steps})))

    def save_model(self, folder: Path, model: nn.Module, processor: Any) -> None:
        """Write a stock model and its tokenizer (or image processor) as transformers does."""

        def save(partial: Path) -> None:
            model.save_pretrained(partial)  # type: ignore[operator]
            if processor is not None:
                processor.save_pretrained(partial)

        with writing(folder):
            write_whole(folder, save)

    def drop_checkpoints(self, stage: str) -> None:
        """Free the space of a finished stage's checkpoints."""
        remove(self.checkpoints(stage))

    def forget_metrics(self, stage: str, after: int) -> None:
        """Drop the logged lines of a stage beyond a step."""
        rows = read_lines(self.metrics)
        try:
            kept = [row for row in rows if row["stage"] != stage or row["step"] <= after]
        except (KeyError, TypeError) as error:
            raise RunError(f"{self.metrics} is damaged ({error!r}): remove it and try again") from None
        if kept != rows:
            with writing(self.metrics):
                write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))

    def read_results(self) -> dict[str, Any]:
        """The results of a finished run, as in results.json.

        Raises: RunError where the run is not finished or the file is damaged.
        """
        if not self.results.is_file():
            raise RunError(f"the run in {self.path} is not finished: the same 'slimformer run' command goes on with it")
        found = read_json(self.results)
        try:
            RunResults.from_json(found)
        except (ValueError, OverflowError) as error:
            raise RunError(f"{self.results} is damaged ({error}): {MEND}") from None
        return dict(found)


def _step(value: object) -> str:
    """The name of a step, which is part of a path."""
    if not re.fullmatch("[a-z0-9_]{1,200}", text(value, "a step")):
        raise ValueError(f"{shown(value)} is no step")
    return str(value)


def last_run(root: Path) -> Path:
    """The run under `root` whose files were written last; one that computed nothing yet is no run.

    Raises: RunError where there is none.
    """
    folders = [folder for folder in root.glob("*/") if (folder / "recipe.toml").is_file()]
    runs = [folder for folder in folders if not RunFolder(folder).is_untouched()]
    if not runs:
        raise RunError(
            f"there is no run in {root}: give one with --run FOLDER, or make one: slimformer run recipes/quickstart.toml"
        )
    return max(runs, key=lambda folder: max(file.stat().st_mtime for file in folder.iterdir()))
