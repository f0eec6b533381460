"""Distillation on logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from slimformer.distillation.base import TERMS
from slimformer.errors import WorkloadError
from slimformer.registry import Weight
from slimformer.supernet.outputs import IGNORED, Batch, Outputs, decoder_mask

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN = -1e4
"""A logit that a softmax turns into zero, finite so that zero times it is zero."""


@TERMS.register("soft_cross_entropy")
@dataclass(frozen=True)
class SoftCrossEntropy:
    """Cross-entropy between the teacher's and the student's softened predictions, summed over output heads.

    -T^2 mean_batch sum_c softmax(teacher / T)_c log_softmax(student / T)_c; with T = 1 the logits loss of DynaBERT
    (arXiv 2004.04037, equation 2). The factor T^2 keeps the gradient's size (arXiv 1503.02531, section 2.1).

    Logits of each token (token classification, language modelling) count where `attention_mask` (for the decoder of an
    encoder-decoder its own mask, or else its labels) is 1 and the batch's labels, if
    each token has one, are not -100; each example's mean is over its own tokens.

    weight: factor of this term in the loss.
    temperature: T above.
    over: the range of the logits' last dimension: "classes", or "tokens" for the start and the end of an answer, each a choice
        among the tokens where `attention_mask` is 1.
    regression: the loss of a head with a single output, for which a softmax is constant: "mse" on the output, or "none" (as
        in the released code, which then trains no head).

    ```python
    from slimformer.distillation import TERMS, SoftCrossEntropy
    assert TERMS.name_of(SoftCrossEntropy(temperature=2.0)) == "soft_cross_entropy"
    ```
    """

    weight: Weight = 1.0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    regression: Literal["mse", "none"] = "mse"
    over: Literal["classes", "tokens"] = "classes"
    needs_hidden: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = True

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        mask = decoder_mask(batch) if student.from_decoder else batch.get("attention_mask")
        heads = [self._head(s, t, batch.get("labels"), mask) for s, t in zip(student.logits, teacher.logits, strict=True)]
        return sum(heads[1:], start=heads[0])

    def _head(self, student: Tensor, teacher: Tensor, labels: Tensor | None, mask: Tensor | None) -> Tensor:
        from slimformer.distillation.cross_entropy import soft_cross_entropies

        if student.shape[-1] == 1:
            return (student.float() - teacher.float()).square().mean() * (self.regression == "mse")
        if self.over == "tokens":
            student, teacher = (_hide_padding(logits, mask) for logits in (student, teacher))
        losses = soft_cross_entropies(student, teacher, self.temperature)
        return _mean(losses, labels, mask) * self.temperature**2


def _hide_padding(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Float[Tensor, "batch tokens"] with a probability of zero, and no gradient, at padding tokens.

    Raises: WorkloadError where there is not one logit for each token.
    """
    if mask is not None and mask.shape != logits.shape:
        raise WorkloadError(
            f'soft_cross_entropy: over = "tokens" needs a logit for each of the {mask.shape[1]} tokens, and this head has '
            f'{logits.shape[-1]} in the last dimension: write over = "classes"'
        )
    return logits if mask is None else logits.masked_fill(mask == 0, HIDDEN)


def _mean(loss: Tensor, labels: Tensor | None, mask: Tensor | None) -> Tensor:
    """The mean over the batch, of each example's mean over its own tokens where there is a loss for each token."""
    if loss.dim() == 1 or mask is None or mask.shape != loss.shape:
        return loss.mean()
    kept = (mask if labels is None or labels.shape != mask.shape else mask * (labels != IGNORED)).to(loss.dtype)
    return ((loss * kept).sum(1) / kept.sum(1).clamp(min=1)).mean()
