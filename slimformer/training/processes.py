"""The processes of a run: one, or several started by torchrun or `accelerate launch`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

T = TypeVar("T")

R = TypeVar("R")


class Processes:
    """This process among those of the run. The first one writes files and talks; all of them compute."""

    @cached_property
    def _state(self) -> Any:
        import torch
        from accelerate import PartialState

        return PartialState(cpu=not torch.cuda.is_available())

    @property
    def count(self) -> int:
        return int(self._state.num_processes)

    @property
    def is_first(self) -> bool:
        return bool(self._state.is_main_process)

    @property
    def device(self) -> Any:
        return self._state.device

    def wait(self) -> None:
        """Wait until every process is here."""
        self._state.wait_for_everyone()

    @contextmanager
    def first_only(self) -> Iterator[bool]:
        """True in the first process, false in the others, which wait until it has left the block."""
        try:
            yield self.is_first
        finally:
            self.wait()

    def share_out(self, work: Sequence[T], do: Callable[[T], R], done: Callable[[T, R], None]) -> None:
        """Do `do(item)` for every item, the items dealt out to the processes; `done` is called in the first one, in order."""
        import torch

        for start in range(0, len(work), self.count):
            mine = work[start : start + self.count]
            index = int(self._state.process_index)
            result = do(mine[index]) if index < len(mine) else None
            results: list[Any] = [result] * self.count
            if self.count > 1:
                torch.distributed.all_gather_object(results, result)
            if self.is_first:
                for item, found in zip(mine, results, strict=False):
                    done(item, found)
