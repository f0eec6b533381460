"""What the command line shows: progress, tables. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from slimformer.reports.escape import plain

WIDE = 160
"""Columns of a table that no terminal shows, so that no cell is cut."""

out = Console(emoji=False) if Console().is_terminal else Console(width=WIDE, emoji=False)

err = Console(stderr=True, emoji=False)

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
            err.print(plain(text), soft_wrap=True, highlight=False, markup=False)

    def begin(self, stage: str, done: int, total: int) -> None:
        self._note, self._last = "", time.monotonic()
        self._first, self._done, self._total, self._since = done, done, total, time.monotonic()
        if self._quiet:
            return
        if err.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}", markup=False),
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
