"""Least squares: refit whole matrices, by ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from slimformer.registry import Count
from slimformer.repair.base import REPAIRS
from slimformer.supernet.outputs import Batch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimformer.repair.equations import Change, NormalEquations
    from slimformer.repair.places import Reader
    from slimformer.repair.streams import TeacherStreams
    from slimformer.supernet.network import SuperNet
    from slimformer.supernet.spec import SubnetSpec

RIDGE_POST_NORM = 0.3
RIDGE_PRE_NORM = 1.0


@REPAIRS.register("least_squares")
@dataclass(frozen=True)
class LeastSquares:
    """Refit the matrix (and bias) that reads each group's units, in closed form; forward passes and small linear algebra.

    In order, on the sub-network's own inputs c: dW' = (G + Lambda)^-1 P with G = E[w c c'], P = E[w c r'] and r the difference
    between the whole model's stream before the next kept unit and the sub-network's. The ridge pulls towards the old weights.
    Reconstruction by least squares after pruning: Kwon et al. (arXiv 2204.09656), OBC and ZipLM (2208.11580, 2302.04089).

    ridge: Lambda = ridge * mean(diag G) in post-norm blocks (as BERT's; 0 means 0.3), ridge * diag G in pre-norm blocks (as
        Llama's; 0 means 1). The least error on the calibration tokens is not the best model: do not tune it down on them.
    rank: keep only a change of this rank for each matrix; 0 keeps all of it.
    min_tokens: refuse fewer real tokens than this for each input of a refitted matrix.
    """

    ridge: Annotated[float, Field(ge=0)] = 0.0
    rank: Count = 0
    min_tokens: Annotated[float, Field(ge=0)] = 2.0

    def __call__(
        self, supernet: SuperNet, spec: SubnetSpec, batches: Sequence[Batch], teacher: TeacherStreams | None = None
    ) -> nn.Module:
        from slimformer.repair.refit import refit

        return refit(supernet, spec, batches, teacher, self._solve, self.min_tokens)

    def _solve(self, equations: NormalEquations, weight: Tensor, reader: Reader, post_norm: bool) -> Change:
        from slimformer.errors import RepairError
        from slimformer.repair.equations import Change, of_rank, ridge_solution

        if self.rank > min(weight.shape):
            raise RepairError(
                f"rank = {self.rank} is above the {min(weight.shape)} of {reader.module}: write at most that, or 0"
            )
        ridge = self.ridge or (RIDGE_POST_NORM if post_norm else RIDGE_PRE_NORM)
        gram = equations.gram
        delta = ridge_solution(gram, equations.cross, ridge, per_input=not post_norm).T
        if self.rank:
            delta = of_rank(delta, gram, self.rank)
        return Change(delta, equations.bias_for(delta))
