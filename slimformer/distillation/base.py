"""The protocol and registry of loss terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from slimformer.errors import SpaceError
from slimformer.registry import Registry
from slimformer.supernet.outputs import Batch, Outputs, decoder_mask

if TYPE_CHECKING:
    from torch import Tensor

Padding = Literal["exclude", "include"]
"""Tokens in a mean: "exclude" those where `attention_mask` is 0, or "include" all."""

Width = Literal["same", "first"]
"""The comparison with a teacher of a wider residual stream: "same" is an error, "first" takes the teacher's first units."""


class Term(Protocol):
    """A summand of the training loss: `weight * term(student, teacher, batch)`, a scalar.

    Laws: the value is a mean over the batch's examples, so that averaging over equal parts of a batch (gradient
    accumulation, several processes) gives the value on the whole batch; a distillation term is zero, with zero gradient,
    where student and teacher agree (up to a constant for cross-entropies).

    needs_hidden: whether the term reads `Outputs.hidden`. needs_labels: whether it reads `Outputs.loss`.
    needs_teacher: whether it reads the teacher's outputs at all.
    """

    @property
    def weight(self) -> float: ...

    needs_hidden: ClassVar[bool]
    needs_labels: ClassVar[bool]
    needs_teacher: ClassVar[bool]

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor: ...


TERMS: Registry[Term] = Registry(
    "loss term", "terms", requires=("weight", "needs_hidden", "needs_labels", "needs_teacher", "__call__")
)
"""Loss terms by name."""


def stack_mask(outputs: Outputs, stack: str, batch: Batch) -> Tensor | None:
    """Which tokens of a stack's states are not padding: the decoder of an encoder-decoder has a mask of its own."""
    return decoder_mask(batch) if outputs.from_decoder and stack == "decoder" else batch.get("attention_mask")


def mean_square(student: Tensor, teacher: Tensor, mask: Tensor | None, padding: Padding, width: Width) -> Tensor:
    """Mean over the batch of the mean square difference over each example's tokens and hidden positions.

    student, teacher: Float[Tensor, "batch tokens hidden"]. With padding "exclude" only tokens where `mask` is 1
    count, each example's mean being over its own tokens; with "include" all tokens count (as in the released DynaBERT).
    Raises: SpaceError where the teacher's stream is wider than the student's, unless `width` is "first".
    """
    if student.shape[-1] != teacher.shape[-1]:
        if width == "same":
            raise SpaceError(
                f"the student's residual stream is {student.shape[-1]} wide and the teacher's {teacher.shape[-1]}: let the "
                'teacher follow = ["hidden"], or give the term width = "first", which compares the first units of both'
            )
        teacher = teacher[..., : student.shape[-1]]
    square = (student.float() - teacher.float()).square().mean(-1)
    if padding == "include" or mask is None or mask.shape != square.shape:
        return square.mean()
    kept = mask.to(square.dtype)
    return ((square * kept).sum(1) / kept.sum(1).clamp(min=1)).mean()
