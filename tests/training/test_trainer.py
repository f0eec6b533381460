"""One stage through the Trainer: exact resume, accumulation, precision, and what the options mean."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import TrainingArguments

from slimformer.distillation import Labels, Largest, One
from slimformer.errors import DataError, InterruptedRunError, RunError
from slimformer.training import Machine, Optimisation, run_stage
from slimformer.training.trainer import ElasticTrainer, _arguments, _Watcher
from tests.tiny import Silent, assert_same_training, collate, tiny_data, tiny_job, train

DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
FP32 = Machine(batch_size=4, precision="fp32", log_steps=1)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class StopsAt(Silent):
    """Sends this process a signal, as Ctrl-C does, when a step is reported."""

    def __init__(self, step, number=signal.SIGINT, times=1):
        super().__init__()
        self.step, self.number, self.times = step, number, times

    def advance(self, stage, step, logs):
        for _ in range(self.times if step == self.step and not logs else 0):
            signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("machine", "number", "asked", "stopped"),
    [
        pytest.param(Machine(batch_size=4), signal.SIGINT, 1, 2, id="first epoch"),
        pytest.param(Machine(batch_size=4), signal.SIGTERM, 8, 8, id="last step"),
        pytest.param(Machine(batch_size=2, gradient_accumulation=2), signal.SIGTERM, 5, 6, id="accumulation"),
        pytest.param(Machine(batch_size=4, group_by_length=True), signal.SIGINT, 5, 6, id="like lengths"),
    ],
)
def test_a_stage_that_is_interrupted_and_started_again_ends_with_the_same_bits(tiny, tmp_path, machine, number, asked, stopped):
    machine = replace(machine, precision="fp32")

    def run(folder, progress=None):
        job = tiny_job(tiny(**DROPOUT), Optimisation(epochs=2, learning_rate=1e-3), One())
        return train(job, machine, tmp_path / folder, progress, tiny_data(16))

    whole = run("whole")
    with pytest.raises(InterruptedRunError, match=f"step {stopped};"):
        run("parts", StopsAt(asked, number))
    assert (tmp_path / "parts" / f"checkpoint-{stopped}" / "model.safetensors").is_file()
    assert same(whole, run("parts"))


def test_a_second_interruption_acts_at_once_and_the_handlers_come_back(tiny, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_job(tiny(), Optimisation(max_steps=3), Largest()), FP32, tmp_path, StopsAt(1, times=2))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_stage_that_is_killed_goes_on_from_its_last_checkpoint_to_the_same_bits(tiny, tmp_path):
    machine, training = Machine(batch_size=4, precision="fp32", save_steps=2), Optimisation(epochs=1, learning_rate=1e-3)
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tests.conftest import build_tiny\n"
        "from tests.tiny import Silent, tiny_job, train\n"
        "from slimformer.options import Machine, Optimisation\n"
        "class Killed(Silent):\n"
        "    def advance(self, stage, step, logs):\n"
        "        if step == 5: os._exit(9)\n"
        "job = tiny_job(build_tiny(hidden_dropout_prob=0.1), Optimisation(epochs=1, learning_rate=1e-3))\n"
        "train(job, Machine(batch_size=4, precision='fp32', save_steps=2), Path(sys.argv[1]), Killed())\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "parts")], env=os.environ | {"PYTHONPATH": str(root)}, check=False
    )
    assert done.returncode == 9
    assert (tmp_path / "parts" / "checkpoint-4").is_dir()
    whole = train(tiny_job(tiny(hidden_dropout_prob=0.1), training), machine, tmp_path / "whole")
    assert same(whole, train(tiny_job(tiny(hidden_dropout_prob=0.1), training), machine, tmp_path / "parts"))


def test_each_forward_pass_augments_its_batch_by_randomness_of_its_own_that_comes_again(tiny, tmp_path):
    seeds = []

    def augment(batch, generator):
        seeds.append(generator.initial_seed())
        return {**batch, "labels": torch.zeros_like(batch["labels"])}

    machine, data = replace(FP32, gradient_accumulation=2), replace(tiny_data(16), augment=augment)
    learnt = [
        train(tiny_job(tiny(), Optimisation(max_steps=2, learning_rate=1e-3), Largest()), machine, tmp_path / name, data=part)
        for name, part in (("a", data), ("b", data))
    ]
    assert len(set(seeds)) == 4
    assert seeds[:4] == seeds[4:]
    assert same(*learnt)


def test_batches_of_like_length_of_examples_without_a_length_are_refused(tiny, tmp_path):
    data = replace(tiny_data(4), train=[{"image": 1, "labels": 0}])
    with pytest.raises(DataError, match=r"remove machine\.group_by_length"):
        train(tiny_job(tiny(), Optimisation()), replace(FP32, group_by_length=True), tmp_path, data=data)


def test_gradient_accumulation_equals_the_larger_batch(tiny, tmp_path):
    training = Optimisation(max_steps=4, learning_rate=1e-3)
    whole = Machine(batch_size=8, precision="fp32", log_steps=1)
    halves = Machine(batch_size=4, gradient_accumulation=2, precision="fp32", log_steps=1)
    logs = Silent(), Silent()
    large = train(tiny_job(tiny(), training), whole, tmp_path / "a", logs[0])
    small = train(tiny_job(tiny(), training), halves, tmp_path / "b", logs[1])
    assert_same_training(large, small)
    for name in ("grad_norm", "loss"):  # the weights alone hide a wrong factor, which Adam cancels
        values = [[line[name] for _, line in silent.logs] for silent in logs]
        assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_ordinary_training_is_that_of_a_plain_trainer(tiny, tmp_path):
    training = Optimisation(epochs=1, learning_rate=1e-3)
    job = tiny_job(tiny(**DROPOUT), training, Largest(), terms=[("labels", Labels())])
    found = train(job, FP32, tmp_path / "elastic")
    model, data = tiny(**DROPOUT), tiny_data()
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "plain"), num_train_epochs=1, learning_rate=1e-3, per_device_train_batch_size=4, seed=0,
        use_cpu=True, report_to="none", save_strategy="no", remove_unused_columns=False, disable_tqdm=True,
    )  # fmt: skip
    transformers.Trainer(model=model, args=arguments, train_dataset=data.train, data_collator=collate).train()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)


def test_bf16_stays_close_to_fp32(tiny, tmp_path):
    training = Optimisation(max_steps=4, learning_rate=1e-4)
    exact, rounded = Silent(), Silent()
    train(tiny_job(tiny(), training), FP32, tmp_path / "a", exact)
    train(tiny_job(tiny(), training), Machine(batch_size=4, precision="bf16", log_steps=1), tmp_path / "b", rounded)
    losses = [[logs["loss"] for _, logs in silent.logs] for silent in (exact, rounded)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_the_learning_rate_warms_up_and_falls(tiny, tmp_path):
    silent = Silent()
    train(tiny_job(tiny(), Optimisation(max_steps=8, learning_rate=1e-3, warmup=0.25)), FP32, tmp_path, silent)
    rates = [logs["learning_rate"] for _, logs in silent.logs]
    assert len(rates) == 8
    assert rates.index(max(rates)) == 2
    assert rates[-1] < rates[2] / 4


@pytest.mark.parametrize("limit", [0.0, 0.5])
def test_the_summed_gradient_is_clipped_once_a_step(tiny, tmp_path, limit):
    norms = []

    def measure(optimizer, args, kwargs):
        gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.cat(gradients).norm()))

    handle = register_optimizer_step_pre_hook(measure)
    machine = Machine(batch_size=4, gradient_accumulation=2, precision="fp32")
    try:
        train(tiny_job(tiny(), Optimisation(max_steps=3, max_grad_norm=limit)), machine, tmp_path)
    finally:
        handle.remove()
    assert len(norms) == 3
    if limit:
        assert norms == pytest.approx([limit] * 3, rel=1e-3)
    else:
        assert min(norms) > 0.6


def test_logged_terms_add_up_to_the_logged_loss(tiny, tmp_path):
    silent = Silent()
    train(tiny_job(tiny(), Optimisation(max_steps=3)), FP32, tmp_path, silent)
    for _, logs in silent.logs:
        assert sum(value for name, value in logs.items() if name.startswith("loss/")) == pytest.approx(logs["loss"], rel=1e-4)


def test_training_lowers_the_loss_of_every_sub_network(tiny, tmp_path):
    silent = Silent()
    train(tiny_job(tiny(), Optimisation(epochs=6, learning_rate=3e-3)), FP32, tmp_path, silent)
    losses = [logs["loss"] for _, logs in silent.logs]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_the_sub_networks_of_a_step_depend_on_seed_and_step_alone(tiny, tmp_path):
    def drawn(seed):
        job = tiny_job(tiny(), Optimisation(), One(), seed)
        trainer = ElasticTrainer(job, tiny_data(), _arguments(job, FP32, tmp_path), _Watcher("stage", Silent()))
        found = []
        for step in (0, 1, 2, 3, 4, 5, 0):
            trainer.state.global_step = step
            found.append(trainer._specs()[0])
        return found

    assert drawn(0) == drawn(0)
    assert drawn(0)[0] == drawn(0)[-1]
    assert len(set(drawn(0))) > 1
    assert drawn(0) != drawn(1)


def test_a_checkpoint_that_cannot_be_written_is_one_clear_error(tiny, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(RunError, match="could not write"):
        run_stage(tiny_job(tiny(), Optimisation(max_steps=1)), tiny_data(), FP32, blocked / "checkpoints", Silent())
