"""Scale: one factor for each input of a matrix, and its bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from slimformer.repair.base import REPAIRS
from slimformer.supernet.outputs import Batch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimformer.repair.equations import Change, NormalEquations
    from slimformer.repair.places import Reader
    from slimformer.repair.streams import TeacherStreams
    from slimformer.supernet.network import SuperNet
    from slimformer.supernet.spec import SubnetSpec


@REPAIRS.register("scale")
@dataclass(frozen=True)
class Scale:
    """Refit one factor for each unit (all columns of a head share it) and the bias, by least squares.

    W_u becomes (1 + x_u) W_u with (A + Lambda) x = b, A_uv = sum over the columns of u and v of G * (W' W),
    b_u = sum over the columns of u of (P W)_ii.

    ridge: Lambda = ridge * diag A.
    """

    ridge: Annotated[float, Field(ge=0)] = 0.1

    def __call__(
        self, supernet: SuperNet, spec: SubnetSpec, batches: Sequence[Batch], teacher: TeacherStreams | None = None
    ) -> nn.Module:
        from slimformer.repair.refit import refit

        return refit(supernet, spec, batches, teacher, self._solve, min_tokens=0.0)

    def _solve(self, equations: NormalEquations, weight: Tensor, reader: Reader, post_norm: bool) -> Change:
        from slimformer.repair.equations import Change, ridge_solution

        wide, size = weight.double(), reader.unit_size
        system = (equations.gram * (wide.T @ wide)).unflatten(0, (-1, size)).sum(1).unflatten(1, (-1, size)).sum(2)
        wanted = (equations.cross * wide.T).sum(1).unflatten(0, (-1, size)).sum(1)
        factors = ridge_solution(system, wanted[:, None], self.ridge, per_input=True)[:, 0]
        delta = wide * factors.repeat_interleave(size)
        return Change(delta, equations.bias_for(delta))
