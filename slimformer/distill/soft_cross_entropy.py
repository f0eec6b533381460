"""Distillation on logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from slimformer.data import Batch, Outputs
from slimformer.distill.base import TERMS

if TYPE_CHECKING:
    from torch import Tensor


@TERMS.register("soft_cross_entropy")
@dataclass(frozen=True)
class SoftCrossEntropy:
    """Cross-entropy between the teacher's and the student's softened predictions, summed over output heads.

    -T^2 mean_batch sum_c softmax(teacher / T)_c log_softmax(student / T)_c; with T = 1 the logits loss of DynaBERT
    (arXiv 2004.04037, equation 2). The factor T^2 keeps the gradient's size (arXiv 1503.02531, section 2.1).

    regression: what a head with a single output gets, where a softmax says nothing: "mse" on the output, or "none" (as
        in the released code, which then trains no head).
    """

    weight: float = 1.0
    temperature: float = 1.0
    regression: Literal["mse", "none"] = "mse"
    needs_hidden: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = True

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        heads = [self._head(s.float(), t.float()) for s, t in zip(student.logits, teacher.logits, strict=True)]
        return sum(heads[1:], start=heads[0])

    def _head(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.shape[-1] == 1:
            return (student - teacher).square().mean() * (self.regression == "mse")
        target = (teacher / self.temperature).softmax(-1)
        loss = -(target * (student / self.temperature).log_softmax(-1)).sum(-1)
        return loss.mean() * self.temperature**2
