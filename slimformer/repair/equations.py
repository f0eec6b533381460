"""Normal equations of a linear layer, summed over batches, and their ridge solution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

JITTER = 1e-9
"""What is added to the diagonal of a Gram matrix, as a fraction of its mean, so that dead inputs do not break the solution."""


@dataclass(frozen=True)
class Change:
    """What is added to a layer: weight Float[Tensor, "out in"], bias Float[Tensor, "out"], zero where the layer has none."""

    weight: Tensor
    bias: Tensor


class NormalEquations:
    """G = sum w c c' and P = sum w c r' over tokens, with inputs c [in], residuals r [out] and weights w, as means.

    centred: take the weighted means off c and r, which a bias will carry. Sums are kept in float64 around the first batch's mean:
    a float32 Gram matrix that is centred by subtraction is not positive definite.
    """

    def __init__(self, centred: bool) -> None:
        self.centred = centred
        self.tokens = 0
        self._total = 0.0
        self._shift: tuple[Tensor, Tensor] = (torch.zeros(()), torch.zeros(()))
        self._gram = self._cross = self._inputs = self._residuals = torch.zeros(())
        self._squares = 0.0

    def add(self, inputs: Tensor, residuals: Tensor, weights: Tensor) -> None:
        """Add tokens: inputs Float[Tensor, "tokens in"], residuals Float[Tensor, "tokens out"], weights Float[Tensor, "tokens"]."""
        if not len(inputs):
            return
        if not self.tokens and self.centred:
            self._shift = (inputs.mean(0), residuals.mean(0))
        c, r = (inputs - self._shift[0], residuals - self._shift[1]) if self.centred else (inputs, residuals)
        weighted = c * weights[:, None]
        self._gram = self._gram + (weighted.T @ c).double()
        self._cross = self._cross + (weighted.T @ r).double()
        self._inputs = self._inputs + weighted.sum(0).double()
        self._residuals = self._residuals + (r * weights[:, None]).sum(0).double()
        self._squares += float((r.square().sum(1) * weights).sum())
        self._total += float(weights.sum())
        self.tokens += len(inputs)

    def is_finite(self) -> bool:
        return self.tokens > 0 and bool(torch.isfinite(self._gram).all() and torch.isfinite(self._cross).all())

    @property
    def gram(self) -> Tensor:
        """Float64[Tensor, "in in"], a mean over tokens."""
        found = self._gram / self._total
        return found - torch.outer(self._inputs, self._inputs) / self._total**2 if self.centred else found

    @property
    def cross(self) -> Tensor:
        """Float64[Tensor, "in out"], a mean over tokens."""
        found = self._cross / self._total
        return found - torch.outer(self._inputs, self._residuals) / self._total**2 if self.centred else found

    @property
    def mean_residual(self) -> Tensor:
        """Float64[Tensor, "out"]."""
        return self._residuals / self._total + self._shift[1].double()

    @property
    def mean_inputs(self) -> Tensor:
        """Float64[Tensor, "in"]."""
        return self._inputs / self._total + self._shift[0].double()

    def bias_for(self, weight: Tensor) -> Tensor:
        """The change of the bias that goes with a change of the weight; zero without centring."""
        if not self.centred:
            return torch.zeros_like(self.mean_residual)
        return self.mean_residual - weight.double() @ self.mean_inputs


def ridge_solution(gram: Tensor, cross: Tensor, ridge: float, per_input: bool) -> Tensor:
    """dW' = (G + Lambda)^-1 P, Float64[Tensor, "in out"], by Cholesky decomposition of the Jacobi-scaled matrix.

    per_input: Lambda = ridge * diag(G); otherwise ridge * mean(diag(G)) on every input.
    """
    diagonal = gram.diagonal()
    mean = diagonal.mean().clamp(min=torch.finfo(torch.float64).tiny)
    penalty = ridge * (diagonal if per_input else mean.expand_as(diagonal)) + JITTER * mean
    system = gram + torch.diag(penalty)
    scale = system.diagonal().rsqrt()
    factor = torch.linalg.cholesky(system * scale[:, None] * scale[None, :])
    return scale[:, None] * torch.cholesky_solve(scale[:, None] * cross, factor)


def of_rank(weight: Tensor, gram: Tensor, rank: int) -> Tensor:
    """The change of rank `rank` nearest to `weight` in the metric of the inputs: V V' dW, V the top eigenvectors of dW G dW'."""
    if rank >= min(weight.shape):
        return weight
    _, vectors = torch.linalg.eigh(weight @ gram @ weight.T)
    top = vectors[:, -rank:]
    return top @ (top.T @ weight)
