"""Distillation on what enters the first block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from slimformer.distillation.base import TERMS, Padding, Width, mean_square, stack_mask
from slimformer.registry import Weight
from slimformer.supernet.outputs import Batch, Outputs

if TYPE_CHECKING:
    from torch import Tensor


@TERMS.register("embedding_mse")
@dataclass(frozen=True)
class EmbeddingMSE:
    """Mean square error between the embeddings, summed over block stacks (DynaBERT, arXiv 2004.04037, equation 3).

    weight: factor of this term in the loss.
    padding: "exclude" leaves out the tokens where `attention_mask` is 0; "include" averages over all (the released code).
    width: the comparison with a teacher of a wider residual stream: "same" refuses it, "first" takes the teacher's first units.

    ```python
    from slimformer.distillation import TERMS, EmbeddingMSE
    assert TERMS.name_of(EmbeddingMSE(weight=0.1)) == "embedding_mse"
    ```
    """

    weight: Weight = 1.0
    padding: Padding = "exclude"
    width: Width = "same"
    needs_hidden: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = True

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        losses = [
            mean_square(
                states.embeddings, teacher.hidden[stack].embeddings, stack_mask(student, stack, batch), self.padding, self.width
            )
            for stack, states in student.hidden.items()
        ]
        return sum(losses[1:], start=losses[0])
