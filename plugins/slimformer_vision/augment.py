"""Augmentation of training pictures, by a generator and without a global seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import Generator, Tensor

Change = Literal["flip", "crop"]


@dataclass(frozen=True)
class Augment:
    """Changes each picture of a batch by itself: "flip" mirrors every other one, "crop" moves it (He et al. 2016, section 4.2).

    A moved picture goes up to an eighth of its size in each direction; what comes in from outside is zero, the mean colour.
    """

    changes: tuple[Change, ...]

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        images = batch["pixel_values"]
        for change in self.changes:
            images = {"flip": flip, "crop": crop}[change](images, generator)
        return {**batch, "pixel_values": images}


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror pictures left to right with probability 1/2; Float[Tensor, "batch channels height width"]."""
    import torch

    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(-1), images)


def crop(images: Tensor, generator: Generator) -> Tensor:
    """Move pictures by up to an eighth of their size; Float[Tensor, "batch channels height width"]."""
    import torch

    count, _, height, width = images.shape
    down, right = (max(1, size // 8) for size in (height, width))
    padded = torch.nn.functional.pad(images, (right, right, down, down))
    rows = torch.randint(2 * down + 1, (count, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(2 * right + 1, (count, 1), generator=generator) + torch.arange(width)
    example = torch.arange(count)[:, None, None]
    moved = padded.movedim(1, -1)[example, rows[:, :, None], columns[:, None, :]]
    return moved.movedim(-1, 1).contiguous()
