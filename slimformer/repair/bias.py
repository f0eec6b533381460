"""Bias: move the bias alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimformer.repair.base import REPAIRS
from slimformer.supernet.outputs import Batch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimformer.repair.equations import Change, NormalEquations
    from slimformer.repair.places import Reader
    from slimformer.repair.streams import TeacherStreams
    from slimformer.supernet.network import SuperNet
    from slimformer.supernet.spec import SubnetSpec


@REPAIRS.register("bias")
@dataclass(frozen=True)
class Bias:
    """Move each bias by the mean difference between the whole model's stream and the sub-network's (as FLAP, arXiv 2312.11983).

    A baseline, weaker than least squares. Pre-norm blocks are left alone: refitted there one after the other, biases alone make
    a decoder far worse. So are layers without a bias.
    """

    def __call__(
        self, supernet: SuperNet, spec: SubnetSpec, batches: Sequence[Batch], teacher: TeacherStreams | None = None
    ) -> nn.Module:
        from slimformer.repair.refit import refit

        return refit(supernet, spec, batches, teacher, self._solve, min_tokens=0.0)

    def _solve(self, equations: NormalEquations, weight: Tensor, reader: Reader, post_norm: bool) -> Change:
        from slimformer.repair.equations import Change

        nothing = weight.new_zeros(weight.shape).double()
        return Change(nothing, equations.bias_for(nothing) * post_norm)
