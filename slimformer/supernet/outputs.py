"""What flows between a model, the loss terms and the tasks: a batch of inputs and the outputs of one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, device

IGNORED = -100
"""The label of a token that is not judged, in transformers."""

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
    from_decoder: whether the logits are those of the decoder of an encoder-decoder, so that they go by its tokens.
    """

    logits: tuple[Tensor, ...]
    loss: Tensor
    hidden: Mapping[str, HiddenStates]
    from_decoder: bool = False


def without_labels(batch: Batch) -> dict[str, Tensor]:
    """The inputs of a batch alone; labels are what transformers' models call "...labels" and "start_positions", "end_positions"."""
    return {name: tensor for name, tensor in batch.items() if not name.endswith(("labels", "_positions"))}


def decoder_mask(batch: Batch) -> Tensor | None:
    """Which tokens of an encoder-decoder's decoder are not padding, by its own mask or its labels (-100 is padding).

    Returns: [Tensor, "batch tokens"] of zeros and ones; None where the batch does not say.
    """
    if "decoder_attention_mask" in batch:
        return batch["decoder_attention_mask"]
    labels = batch.get("labels")
    if labels is not None and labels.dim() == 2:
        return (labels != IGNORED).long()
    return None if "decoder_input_ids" in batch else batch.get("attention_mask")


def to_device(batch: Batch, device: device | str) -> dict[str, Tensor]:
    """Copy a batch to a device; tensors already there are not copied."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
