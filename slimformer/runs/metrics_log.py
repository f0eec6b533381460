"""Record progress: metrics.jsonl, TensorBoard, environment.json."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

from slimformer.files import append_line, write_text, writing
from slimformer.progress import Report
from slimformer.runs.folder import RunFolder
from slimformer.training.processes import Processes


class MetricsLog:
    """Passes progress on to the report; the first process also writes every logged number to files."""

    def __init__(self, folder: RunFolder, report: Report, processes: Processes) -> None:
        self._folder = folder
        self._report = report
        self._is_writer = processes.is_first
        self._board: Any = None

    def say(self, text: str) -> None:
        self._report.say(text)

    def begin(self, stage: str, done: int, total: int) -> None:
        """A resumed stage repeats the steps after its checkpoint: their lines are dropped first."""
        if self._is_writer:
            self._folder.forget_metrics(stage, after=done)
        self._report.begin(stage, done, total)

    def advance(self, stage: str, step: int, logs: dict[str, float]) -> None:
        if logs and step >= 0 and self._is_writer:
            with writing(self._folder.path):
                append_line(self._folder.metrics, {"stage": stage, "step": step} | logs)
                self._show_on_board(stage, step, logs)
        self._report.advance(stage, step, logs)

    def end(self, stage: str) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None
        self._report.end(stage)

    def _show_on_board(self, stage: str, step: int, logs: dict[str, float]) -> None:
        """Write to TensorBoard, if it is installed."""
        if find_spec("tensorboard") is None:
            return
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._folder.tensorboard / stage), purge_step=step)
        for name, value in logs.items():
            self._board.add_scalar(name, value, step)


def write_environment(folder: RunFolder) -> None:
    packages = ("slimformer", "torch", "transformers", "accelerate", "datasets", "numpy")
    table = {
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: version(name) for name in packages},
    }
    with writing(folder.path):
        write_text(folder.path / "environment.json", json.dumps(table, indent=2))
