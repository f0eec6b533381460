"""What flows between a model, the loss terms and the tasks: a batch of inputs and the outputs of one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, device

Batch = Mapping[str, "Tensor"]
"""The keyword arguments of a model's forward: name -> tensor, the batch in dimension 0."""


@dataclass(frozen=True)
class HiddenStates:
    """The residual stream of one block stack, as one forward pass produced it.

    embeddings: Float[Tensor, "batch tokens hidden"], what enters the first block.
    blocks: the indices, in the full stack, of the blocks that ran.
    states: the output of each of those blocks, each Float[Tensor, "batch tokens hidden"].
    """

    embeddings: Tensor
    blocks: tuple[int, ...]
    states: tuple[Tensor, ...]


@dataclass(frozen=True)
class Outputs:
    """What one forward pass of a (sub-)network produced.

    logits: one tensor per output head (classification has one, extractive question answering two).
    loss: the task's own loss on the batch's labels, a scalar; zero where the batch has no labels.
    hidden: the hidden states of each block stack, by the stack's name.
    """

    logits: tuple[Tensor, ...]
    loss: Tensor
    hidden: Mapping[str, HiddenStates]


def without_labels(batch: Batch) -> dict[str, Tensor]:
    """The inputs of a batch alone; labels are what transformers' models call "...labels" and "start_positions", "end_positions"."""
    return {name: tensor for name, tensor in batch.items() if not name.endswith(("labels", "_positions"))}


def to_device(batch: Batch, device: device | str) -> dict[str, Tensor]:
    """Copy a batch to a device; tensors already there are not copied."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
