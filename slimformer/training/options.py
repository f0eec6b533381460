"""Options of training that recipes and Python share; plain data, so that a recipe is checked without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""The floating-point format of training."""


@dataclass(frozen=True)
class Optimisation:
    """Length and learning rate of a stage's training.

    epochs: passes over the training split; max_steps: optimizer steps, which win over epochs where above zero.
    warmup: the share of steps over which the learning rate rises from zero; schedule: how it falls afterwards.
    max_grad_norm: gradients are clipped to this norm once a step, after those of all sub-networks are summed; 0: never.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    epochs: Annotated[float, Field(ge=0)] = 3.0
    max_steps: Annotated[int, Field(ge=0)] = 0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0


@dataclass(frozen=True)
class Machine:
    """Hardware and logging options. Except for the batch sizes, they change the result only by floating-point error.

    batch_size: examples per process and forward pass; gradient_accumulation: forward passes per optimizer step.
    precision: "auto" is bf16 where the device multiplies bf16 matrices natively, else fp32.
    save_steps: a checkpoint every so many optimizer steps; one is also written when the run is interrupted.
    log_steps: optimizer steps between two lines of metrics.
    group_by_length: batches of like length; less padding, another order of examples.
    workers: processes that load data. trackers: what the Trainer's `report_to` knows, for example ["wandb"]; a run writes
        metrics.jsonl and TensorBoard's files without being asked.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    batch_size: Annotated[int, Field(ge=1)] = 32
    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    precision: Precision = "auto"
    save_steps: Annotated[int, Field(ge=1)] = 200
    log_steps: Annotated[int, Field(ge=1)] = 10
    group_by_length: bool = False
    workers: Annotated[int, Field(ge=0)] = 0
    trackers: tuple[str, ...] = ()
