"""Checkpoints appear whole; a stage that was stopped at its last step trains no more; killed at any file operation, it resumes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slimformer.distillation import Labels, Largest
from slimformer.errors import InterruptedRunError, RunError
from slimformer.files import write_whole
from slimformer.training.checkpointing import PARTIAL, last_checkpoint
from tests.conftest import build_tiny
from tests.killed_stage import MACHINE, STEPS, same, stage
from tests.tiny import Silent, tiny_data, tiny_job, train


@pytest.fixture(scope="module")
def wanted(tmp_path_factory) -> dict[str, torch.Tensor]:
    return stage(tmp_path_factory.mktemp("whole"))


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
    with pytest.raises(RunError, match=r"step 1: the loss term 'labels' is not finite; lower its learning_rate"):
        train(job, MACHINE, tmp_path, Silent(), data=tiny_data(16))


def test_a_gradient_that_is_not_finite_stops_before_the_step_and_the_last_good_checkpoint_resumes(tmp_path, monkeypatch):
    from slimformer.training.trainer import ElasticTrainer

    average = ElasticTrainer._average_gradients_

    def poisoned(self, model):
        stop = average(self, model)
        if self.state.global_step == 3:
            model.get_input_embeddings().weight.grad[0, 0] = torch.nan
        return stop

    wanted = stage(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(ElasticTrainer, "_average_gradients_", poisoned)
        with pytest.raises(RunError, match=r"step 4: a gradient is not finite"):
            stage(tmp_path / "stopped")
    assert same(stage(tmp_path / "stopped"), wanted)


def test_weights_that_are_not_finite_are_never_saved_over_the_last_good_checkpoint(tmp_path, monkeypatch):
    from slimformer.training.trainer import ElasticTrainer

    wanted = stage(tmp_path / "whole")
    step = ElasticTrainer.training_step

    def spoiled(self, model, *rest):
        loss = step(self, model, *rest)
        if self.state.global_step == 3:
            model.get_input_embeddings().weight.data[0, 0] = torch.nan  # the weights after step 4
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(ElasticTrainer, "training_step", spoiled)
        with pytest.raises(RunError, match=r"step 4: a weight is not finite"):
            stage(tmp_path / "stopped")
    assert same(stage(tmp_path / "stopped"), wanted)


def test_the_configuration_keeps_its_use_cache(tmp_path):
    model = build_tiny()
    model.config.use_cache = True
    job = tiny_job(model, STEPS, Largest(), terms=[("labels", Labels())])
    train(job, MACHINE, tmp_path, Silent(), data=tiny_data(16))
    assert model.config.use_cache is True


ROOT = Path(__file__).parents[2]


def kill_at(points, folder: Path) -> int:
    """Kill the stage at each of the file operations and resume it, in a process of its own; returns how often it died."""
    command = [sys.executable, "-m", "tests.killed_stage", str(folder), *map(str, points)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def test_a_stage_killed_at_a_file_operation_resumes_to_the_same_bits(tmp_path):
    assert kill_at((3, 12, 25, 40), tmp_path) == 4


@pytest.mark.slow
def test_a_stage_killed_at_each_of_100_file_operations_resumes_to_the_same_bits(tmp_path):
    assert kill_at(range(1, 101), tmp_path) >= 40
