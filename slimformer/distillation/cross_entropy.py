"""The cross-entropy between softened predictions, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 2**24
"""Logits of which a softmax is made at a time."""


def soft_cross_entropies(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """-sum_c softmax(teacher / T)_c log_softmax(student / T)_c of each prediction, Float[Tensor, "*batch"].

    student, teacher: Float[Tensor, "*batch classes"]; the teacher takes no gradient. It is computed in float32 or the logits'
    own wider type. Beside the logits and the student's gradient only `CHUNK` logits' softmax is alive at a time: those of a
    language model fill hundreds of megabytes.
    """
    losses: Tensor = _CrossEntropies.apply(student, teacher, temperature)
    return losses


class _CrossEntropies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(student, teacher)
        ctx.temperature = temperature
        losses = [-(t.softmax(-1) * s.log_softmax(-1)).sum(-1) for s, t in _softened(student, teacher, temperature)]
        return torch.cat(losses).view(student.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        student, teacher = ctx.saved_tensors
        whole = torch.empty_like(student, memory_format=torch.contiguous_format)
        scales = (gradient / ctx.temperature).reshape(-1, 1).split(_rows(student))
        pairs = _softened(student, teacher, ctx.temperature)
        for part, scale, (s, t) in zip(_parts(whole), scales, pairs, strict=True):
            part.copy_((s.softmax(-1) - t.softmax(-1)) * scale)
        return whole, None, None


def _softened(student: Tensor, teacher: Tensor, temperature: float) -> Iterator[tuple[Tensor, Tensor]]:
    for s, t in zip(_parts(student), _parts(teacher), strict=True):
        yield _wide(s) / temperature, _wide(t) / temperature


def _parts(logits: Tensor) -> tuple[Tensor, ...]:
    """Views of some predictions at a time, Float[Tensor, "rows classes"]."""
    return logits.flatten(0, -2).split(_rows(logits))


def _rows(logits: Tensor) -> int:
    return max(1, CHUNK // logits.shape[-1])


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
