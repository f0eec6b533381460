"""A tiny task and training job, for tests and for the processes that tests start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from slimformer import Axis, Space, SuperNet
from slimformer.axes import DEPTH_POLICIES
from slimformer.backbones import backbone_for
from slimformer.distillation import EmbeddingMSE, Every, HiddenMSE, Sampler, SoftCrossEntropy
from slimformer.tasks import TaskData
from slimformer.training import ElasticStep, Machine, Optimisation, run_stage
from slimformer.training.trainer import Job

TERMS = [("logits", SoftCrossEntropy()), ("hidden", HiddenMSE(weight=0.1)), ("embeddings", EmbeddingMSE(weight=0.1))]


def collate(examples: Sequence[Any]) -> dict[str, torch.Tensor]:
    longest = max(len(example["input_ids"]) for example in examples)
    ids = [example["input_ids"] + [0] * (longest - len(example["input_ids"])) for example in examples]
    mask = [[1] * len(example["input_ids"]) + [0] * (longest - len(example["input_ids"])) for example in examples]
    labels = [example["labels"] for example in examples]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


def tiny_data(size: int = 32) -> TaskData:
    """Sentences of three to ten tokens; the label says whether token 7 is among them."""
    draw = torch.Generator().manual_seed(5)
    examples = []
    for _ in range(2 * size):
        length = int(torch.randint(3, 11, (), generator=draw))
        ids = torch.randint(2, 20, (length,), generator=draw).tolist()
        examples.append({"input_ids": ids, "labels": int(7 in ids)})
    held_out = examples[size:]

    def score(split: str, logits: tuple[Any, ...]) -> dict[str, float]:
        labels = [example["labels"] for example in held_out]
        return {"accuracy": 100 * float((logits[0].argmax(-1) == labels).mean())}

    return TaskData(examples[:size], held_out[:8], {"validation": held_out}, collate, score, "accuracy", None)


def tiny_job(model: Any, training: Optimisation, sampler: Sampler | None = None, seed: int = 0, terms: Any = TERMS) -> Job:
    """A stage over widths and depths with a frozen copy of the model as its teacher."""
    import copy

    topology = backbone_for(model).topology(model)
    supernet = SuperNet(model, topology)
    teacher = SuperNet(copy.deepcopy(model), topology).requires_grad_(False).eval()
    axes = (Axis("width", (1.0, 0.5)), Axis("depth", (1.0, 0.5)))
    space = Space(topology, axes, DEPTH_POLICIES.build("keep_last"))
    return Job("stage", ElasticStep(supernet, terms, teacher), space, sampler or Every(), training, seed)


class Silent:
    """Progress that nobody watches, but which keeps what was logged."""

    def __init__(self) -> None:
        self.logs: list[tuple[int, dict[str, float]]] = []

    def begin(self, stage: str, done: int, total: int) -> None: ...

    def advance(self, stage: str, step: int, logs: dict[str, float]) -> None:
        if logs:
            self.logs.append((step, logs))

    def end(self, stage: str) -> None: ...


def train(
    job: Job, machine: Machine, folder: Path, progress: Any = None, data: TaskData | None = None
) -> dict[str, torch.Tensor]:
    """Run a job; the weights that it ends with."""
    run_stage(job, data or tiny_data(), machine, folder, progress or Silent())
    return {name: value.detach().clone() for name, value in job.step.supernet.model.state_dict().items()}


def assert_same_training(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """The weights are equal up to float error.

    Key biases are left out: softmax cancels them, so that their gradient is float noise, which Adam scales up.
    """
    for name, value in one.items():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(other[name], value, atol=2e-5, rtol=1e-4)
