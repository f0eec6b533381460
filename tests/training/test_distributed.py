"""Two processes on the CPU against one: the same weights, one all-reduce a step, exact resume."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from slimformer.training import Machine, Optimisation
from tests.tiny import Silent, assert_same_training, tiny_job, train

pytestmark = pytest.mark.dist

ROOT = Path(__file__).parents[2]
STEPS = 6
STOP_AT = 4
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from slimformer.errors import InterruptedRunError
from slimformer.options import Machine, Optimisation
from slimformer.processes import Processes
from tests.conftest import build_tiny
from tests.tiny import Silent, tiny_job, train

rank = os.environ["RANK"]
big, stop_at = [], 0
all_reduce = torch.distributed.all_reduce

def watched(tensor, *args, **kwargs):
    result = all_reduce(tensor, *args, **kwargs)
    if tensor.numel() > 10_000:
        big.append(tensor.numel())
        if len(big) == stop_at and rank == "0":  # too late for the others to hear of it at this step
            os.kill(os.getpid(), signal.SIGTERM)
    return result

torch.distributed.all_reduce = watched
root = Path(sys.argv[1])
for name, folder, dropout, stop_at in json.loads(sys.argv[2]):
    big.clear()
    job = tiny_job(build_tiny(hidden_dropout_prob=dropout), Optimisation(max_steps=%d, learning_rate=1e-3))
    silent = Silent()
    try:
        weights = train(job, Machine(batch_size=4, precision="fp32", log_steps=1), root / folder, silent)
        said = "finished"
    except InterruptedRunError as error:
        weights = {}
        said = str(error)
    told = {"said": said, "reductions": len(big), "norms": [logs["grad_norm"] for _, logs in silent.logs]}
    (root / f"{name}.{rank}.json").write_text(json.dumps(told))
    save_file(weights, root / f"{name}.{rank}.safetensors")

done = []
Processes().share_out(range(5), lambda item: (item * item, rank), lambda item, found: done.append([item, *found]))
(root / f"shared.{rank}.json").write_text(json.dumps(done))
"""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# With "--cpu" accelerate starts several processes only through MPI; "--multi_gpu" starts them as torchrun does.
ACCELERATE = [
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
    "--dynamo_backend", "no", "--main_process_port", "0",
]  # fmt: skip


def launch(launcher, folder, jobs):
    """Do jobs (name, folder of checkpoints, dropout, the step after which one process gets SIGTERM) in two processes."""
    script = folder / "script.py"
    script.write_text(SCRIPT % STEPS)
    machine = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    environment = os.environ | machine | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launcher, str(script), str(folder), json.dumps(jobs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """What torchrun's two processes leave: a whole run without dropout, one with, and one that is stopped."""
    folder = tmp_path_factory.mktemp("pair")
    launch(TORCHRUN, folder, [("plain", "a", 0.0, 0), ("whole", "b", 0.1, 0), ("stopped", "c", 0.1, STOP_AT)])
    return folder


@pytest.fixture(scope="module")
def resumed(root):
    """What two fresh processes, of `accelerate launch`, make of the stopped run, and of a whole one without dropout."""
    launch(ACCELERATE, root, [("resumed", "c", 0.1, 0), ("accelerated", "d", 0.0, 0)])
    return root


def told(root, name):
    return [json.loads((root / f"{name}.{rank}.json").read_text()) for rank in (0, 1)]


def weights(root, name, rank=0):
    return load_file(root / f"{name}.{rank}.safetensors")


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_end_with_the_weights_of_one(tiny, root, tmp_path):
    job, silent = tiny_job(tiny(), Optimisation(max_steps=STEPS, learning_rate=1e-3)), Silent()
    alone = train(job, Machine(batch_size=8, precision="fp32", log_steps=1), tmp_path, silent)
    assert_same_training(alone, weights(root, "plain"))
    # the weights alone hide a wrong factor, which Adam cancels
    assert told(root, "plain")[0]["norms"] == pytest.approx([logs["grad_norm"] for _, logs in silent.logs], rel=1e-4)
    moved = [(alone[name] - value).abs().max() for name, value in tiny().state_dict().items()]
    assert max(moved) > 2e-3


@pytest.mark.parametrize("name", ["plain", "whole"])
def test_both_processes_hold_the_same_weights(root, name):
    assert same(weights(root, name, 0), weights(root, name, 1))


def test_gradients_are_reduced_once_an_optimizer_step(root):
    assert [process["reductions"] for process in told(root, "plain")] == [STEPS, STEPS]


def test_processes_stop_at_the_same_step_when_one_of_them_is_asked_to(root):
    for process in told(root, "stopped"):
        assert f"at step {STOP_AT + 1};" in process["said"]
        assert process["reductions"] == STOP_AT + 1


def test_a_stopped_run_resumed_by_fresh_processes_ends_with_the_same_bits(resumed):
    for process in told(resumed, "resumed"):
        assert process["said"] == "finished"
        assert process["reductions"] == STEPS - STOP_AT - 1
    assert same(weights(resumed, "whole"), weights(resumed, "resumed"))


def test_accelerate_launch_does_what_torchrun_does(resumed):
    assert same(weights(resumed, "plain"), weights(resumed, "accelerated"))


def test_work_shared_out_is_done_by_all_and_reported_in_order_by_the_first(root):
    assert told(root, "shared") == [[[0, 0, "0"], [1, 1, "1"], [2, 4, "0"], [3, 9, "1"], [4, 16, "0"]], []]
