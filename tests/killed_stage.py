"""Kill a training stage at a file operation, and resume it: `python -m tests.killed_stage FOLDER NUMBER...`.

Each run dies in a fork of this process, so that nothing is imported twice.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
from pathlib import Path

import torch

from slimformer import load_plugins
from slimformer.distillation import Labels, Largest
from slimformer.training import Machine, Optimisation
from tests.conftest import build_tiny
from tests.tiny import Silent, tiny_data, tiny_job, train

OPERATIONS = ("replace", "rename", "mkdir", "unlink", "rmdir", "fsync")
MACHINE = Machine(batch_size=4, precision="fp32", log_steps=1, save_steps=2)
STEPS = Optimisation(max_steps=5, learning_rate=1e-3, schedule="constant")


def stage(folder: Path, progress: Silent | None = None) -> dict[str, torch.Tensor]:
    job = tiny_job(build_tiny(), STEPS, Largest(), terms=[("labels", Labels())])
    return train(job, MACHINE, folder, progress or Silent(), data=tiny_data(16))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def killed(folder: Path, number: int) -> int:
    """Run the stage in a fork that dies at its n-th file operation; returns the exit code, 137 if it died."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_dying, args=(folder, number))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the stage hangs"
    return process.exitcode


def _dying(folder: Path, number: int) -> None:
    left = [number]

    def counted(real):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os._exit(137)
            return real(*args, **kwargs)

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    stage(folder)
    os._exit(0)


def main(folder: Path, points: list[int]) -> int:
    """Kill and resume the stage at each point; returns how often it died, the others having ended before."""
    load_plugins()
    torch.set_num_threads(1)
    wanted, died = stage(folder / "whole"), 0
    for number in points:
        died += killed(folder / str(number), number) == 137
        if not same(stage(folder / str(number)), wanted):
            sys.exit(f"killed at operation {number}, the stage resumed to other weights")
        shutil.rmtree(folder / str(number), ignore_errors=True)
    return died


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), [int(number) for number in sys.argv[2:]]))
