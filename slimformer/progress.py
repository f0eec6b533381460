"""The interface for progress output."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Interface for the progress of one stage: progress bars, metric files."""

    def begin(self, stage: str, done: int, total: int) -> None: ...
    def advance(self, stage: str, step: int, logs: dict[str, float]) -> None: ...
    def end(self, stage: str) -> None: ...


class Report(Progress, Protocol):
    """Interface for progress output: the progress of stages, and lines of text."""

    def say(self, text: str) -> None: ...


class SilentReport:
    """A report that shows nothing."""

    def begin(self, stage: str, done: int, total: int) -> None: ...
    def advance(self, stage: str, step: int, logs: dict[str, float]) -> None: ...
    def end(self, stage: str) -> None: ...
    def say(self, text: str) -> None: ...
