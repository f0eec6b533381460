"""Distillation on the outputs of the blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from slimformer.distillation.base import TERMS, Padding, Width, mean_square, stack_mask
from slimformer.registry import Weight
from slimformer.supernet.outputs import Batch, HiddenStates, Outputs

if TYPE_CHECKING:
    from torch import Tensor

LayerMap = Literal["output", "input"]


@TERMS.register("hidden_mse")
@dataclass(frozen=True)
class HiddenMSE:
    """Mean square error between the blocks' outputs, summed over the student's blocks.

    Source: DynaBERT (arXiv 2004.04037), equation 3.

    weight: factor of this term in the loss.
    layer_map: the pairing of the student's blocks with the teacher's. "output" compares the outputs of block k of both;
        "input" compares the inputs of block k of both, and the last outputs (the released code). With the keep-last rule
        "output" and with the released code's rule "input" give the same teacher states.
    padding: "exclude" leaves out the tokens where `attention_mask` is 0; "include" averages over all (the released code).
    width: the comparison with a teacher of a wider residual stream: "same" refuses it, "first" takes the teacher's first units.

    ```python
    from slimformer.distillation import TERMS, HiddenMSE
    assert TERMS.name_of(HiddenMSE(weight=0.1, layer_map="input")) == "hidden_mse"
    ```
    """

    weight: Weight = 1.0
    layer_map: LayerMap = "output"
    padding: Padding = "exclude"
    width: Width = "same"
    needs_hidden: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = True

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        losses = [
            mean_square(
                state, teacher.hidden[stack].states[target], stack_mask(student, stack, batch), self.padding, self.width
            )
            for stack, states in student.hidden.items()
            for state, target in zip(states.states, targets(states, teacher.hidden[stack], self.layer_map), strict=True)
        ]
        return sum(losses[1:], start=losses[0])


def targets(student: HiddenStates, teacher: HiddenStates, layer_map: LayerMap) -> list[int]:
    """The teacher's state that each of the student's is compared with, by position among the teacher's states.

    A teacher that dropped the wanted block offers the last one before it that it ran.
    """
    if layer_map == "output":
        wanted = list(student.blocks)
    else:
        wanted = [block - 1 for block in student.blocks[1:]] + [teacher.blocks[-1]]
    return [max(0, sum(block <= want for block in teacher.blocks) - 1) for want in wanted]
