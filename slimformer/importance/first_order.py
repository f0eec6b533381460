"""First-order importance: the change in loss if a unit were removed, to first order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from slimformer.importance.base import SCORERS, Scores
from slimformer.supernet.outputs import Batch, to_device

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimformer.importance.gates import GateKey
    from slimformer.supernet.network import SuperNet
    from slimformer.supernet.topology import Topology

Reduction = Literal["abs_of_sum", "sum_of_abs", "cumulative"]


@SCORERS.register("first_order")
@dataclass(frozen=True)
class FirstOrder:
    """Change in loss if a unit were removed, to first order: |d loss / d gate| with a gate of 1 on each unit.

    A gate stands on each unit where it is read (a head before the output projection, a neuron after its activation). Where
    a single module writes the group (a neuron's row of W1 and b1) a second gate stands there and the two absolute values
    add up. With w the weights that a gate scales, the identity `d loss / d gate == sum(w * d loss / d w)` makes this the
    score of DynaBERT (arXiv 2004.04037, section 2.1 and algorithm 1), which needs neither head masks nor the weights'
    gradients: the weights are frozen and only the gates take gradients.

    reduction: the sum over batches, with g_t the gradient of batch t: "abs_of_sum" is |sum_t g_t|, the paper's algorithm 1;
        "sum_of_abs" is sum_t |g_t|, as for heads in arXiv 1905.10650; "cumulative" is sum_t |sum_{s<=t} g_s|, the released
        code's result, which never clears gradients.

    ```python
    from slimformer.importance import FirstOrder
    scores = FirstOrder(reduction="sum_of_abs")(supernet, batches)
    assert len(scores["encoder.0.heads"]) == 4
    ```
    """

    reduction: Reduction = "abs_of_sum"
    needs_data: ClassVar[bool] = True

    def __call__(self, supernet: SuperNet, batches: Iterable[Batch]) -> Scores:
        return self.of(supernet.frozen(supernet.topology.full), supernet.topology, batches)

    def of(self, network: nn.Module, topology: Topology, batches: Iterable[Batch]) -> Scores:
        """The scores of the units of a network with frozen weights; the groups of `topology` are as large as they are in it."""
        import torch

        from slimformer.importance.gates import gated

        device = next(network.parameters()).device
        with gated(network, topology) as gates:
            sums = {key: torch.zeros_like(gate) for key, gate in gates.items()}
            totals = {key: torch.zeros_like(gate) for key, gate in gates.items()}
            for batch in batches:
                loss = network(**to_device(batch, device)).loss
                gradients = torch.autograd.grad(loss, list(gates.values()))
                for key, gradient in zip(gates, gradients, strict=True):
                    sums[key] += gradient
                    totals[key] += _step(self.reduction, gradient, sums[key])
        ends = sums if self.reduction == "abs_of_sum" else totals
        return _per_group(ends, topology)


def _step(reduction: Reduction, gradient: Tensor, running: Tensor) -> Tensor:
    return gradient.abs() if reduction == "sum_of_abs" else running.abs()


def _per_group(gates: dict[GateKey, Tensor], topology: Topology) -> Scores:
    scores: dict[str, list[Tensor]] = defaultdict(list)
    for (group, _), value in gates.items():
        scores[group].append(value.abs())
    return {group.name: sum(scores[group.name]).detach().cpu() for group in topology.groups}  # type: ignore[union-attr]
