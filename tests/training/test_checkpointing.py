"""Checkpoints appear whole; a stage that was stopped at its last step trains no more; killed at any file operation, it resumes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
import torch

from slimformer.distillation import Labels, Largest
from slimformer.errors import InterruptedRunError, RunError
from slimformer.files import write_whole
from slimformer.training import Machine, Optimisation
from slimformer.training.checkpointing import PARTIAL, last_checkpoint
from tests.conftest import build_tiny
from tests.tiny import Silent, tiny_data, tiny_job, train

MACHINE = Machine(batch_size=4, precision="fp32", log_steps=1, save_steps=2)
STEPS = Optimisation(max_steps=5, learning_rate=1e-3, schedule="constant")
OPERATIONS = ("replace", "rename", "mkdir", "unlink", "rmdir", "fsync")


def stage(folder: Path, progress: Silent | None = None) -> dict[str, torch.Tensor]:
    job = tiny_job(build_tiny(), STEPS, Largest(), terms=[("labels", Labels())])
    return train(job, MACHINE, folder, progress or Silent(), data=tiny_data(16))


@pytest.fixture(scope="module")
def wanted(tmp_path_factory) -> dict[str, torch.Tensor]:
    return stage(tmp_path_factory.mktemp("whole"))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class StopAtTheEnd(Silent):
    def advance(self, stage: str, step: int, logs: dict[str, float]) -> None:
        import signal

        if step == STEPS.max_steps and not logs:
            signal.raise_signal(signal.SIGINT)


def test_a_stage_stopped_at_its_last_step_trains_no_more(tmp_path, wanted):
    with pytest.raises(InterruptedRunError):
        stage(tmp_path, StopAtTheEnd())
    log = Silent()
    assert same(stage(tmp_path, log), wanted)
    assert not log.logs


def test_half_a_checkpoint_is_ignored_and_removed(tmp_path):
    whole, half = tmp_path / "checkpoint-2", tmp_path / "checkpoint-4"
    for folder in (whole, half, tmp_path / PARTIAL):
        folder.mkdir()
    (whole / "trainer_state.json").write_text(json.dumps({"global_step": 2, "max_steps": 5}))
    (half / "trainer_state.json").write_text('{"global_st')
    assert last_checkpoint(tmp_path) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2"]


def test_a_folder_whose_replacement_was_killed_is_put_back(tmp_path):
    target, old = tmp_path / "model", tmp_path / ".model.old"
    old.mkdir()
    (old / "weights").write_text("old")

    def fail(partial: Path) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_whole(target, fail)
    assert (target / "weights").read_text() == "old"


def test_a_loss_that_is_not_finite_stops_the_stage_and_is_named(tmp_path):
    model = build_tiny()
    model.classifier.weight.data[0, 0] = torch.nan
    job = tiny_job(model, STEPS, Largest(), terms=[("labels", Labels())])
    with pytest.raises(RunError, match=r"step 1: the loss term 'labels' is nan; lower its learning_rate"):
        train(job, MACHINE, tmp_path, Silent(), data=tiny_data(16))


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


def check_points(points, tmp_path: Path, wanted: dict[str, torch.Tensor]) -> int:
    died = 0
    for number in points:
        folder = tmp_path / str(number)
        died += killed(folder, number) == 137
        assert same(stage(folder), wanted), f"killed at operation {number}"
        shutil.rmtree(folder, ignore_errors=True)
    return died


def test_a_stage_killed_at_a_file_operation_resumes_to_the_same_bits(tmp_path, wanted):
    assert check_points((3, 12, 25, 40), tmp_path, wanted) == 4


@pytest.mark.slow
def test_a_stage_killed_at_each_of_100_file_operations_resumes_to_the_same_bits(tmp_path, wanted):
    assert check_points(range(1, 101), tmp_path, wanted) >= 40
