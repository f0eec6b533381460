"""The task's own loss on the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from slimformer.distillation.base import TERMS
from slimformer.registry import Weight
from slimformer.supernet.outputs import Batch, Outputs

if TYPE_CHECKING:
    from torch import Tensor


@TERMS.register("labels")
@dataclass(frozen=True)
class Labels:
    """The task's own loss on the labels (cross-entropy, or mean square error for regression): no teacher.

    weight: factor of this term in the loss.

    ```python
    from slimformer.distillation import TERMS, Labels
    assert TERMS.name_of(Labels()) == "labels"
    ```
    """

    weight: Weight = 1.0
    needs_hidden: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return student.loss
