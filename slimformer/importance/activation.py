"""Activation-norm importance: the norm of a unit's output on real inputs, times the norm of the weights that read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from slimformer.errors import TopologyError
from slimformer.importance.base import SCORERS, Scores, readers, strength
from slimformer.supernet.outputs import Batch, to_device

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimformer.supernet.network import SuperNet
    from slimformer.supernet.topology import UnitGroup


@SCORERS.register("activation_norm")
@dataclass(frozen=True)
class ActivationNorm:
    """Root of the summed squares of a unit's output over all real tokens; forward passes only, no labels.

    Source: Wanda (arXiv 2306.11695) for single weights; Minitron (arXiv 2407.14679, section 2.2) without the weights.

    weighted: multiply each coordinate by the norm of the weights that read it, so that a unit which nothing reads scores
        zero; false for the activation norm alone.

    ```python
    from slimformer.importance import ActivationNorm
    scores = ActivationNorm(weighted=False)(supernet, batches)
    assert len(scores["encoder.0.ffn"]) == 64
    ```
    """

    weighted: bool = True
    needs_data: ClassVar[bool] = True

    def __call__(self, supernet: SuperNet, batches: Iterable[Batch]) -> Scores:
        import torch

        _check_readers(supernet)
        network = supernet.frozen(supernet.topology.full)
        device = next(network.parameters()).device
        mask: list[Tensor] = []
        with ExitStack() as hooks, torch.no_grad():
            sums = {}
            for group in supernet.topology.groups:
                for module, unit_size in readers(group):
                    sums[module] = torch.zeros(group.num_units * unit_size, device=device)
            for module, total in sums.items():
                hooks.callback(network.get_submodule(module).register_forward_pre_hook(_adder(total, mask)).remove)
            for batch in batches:
                inputs = to_device(batch, device)
                mask[:] = [inputs["attention_mask"].float()] if "attention_mask" in inputs else []
                network(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
            return {group.name: self._score(group, sums, supernet) for group in supernet.topology.groups}

    def _score(self, group: UnitGroup, sums: Mapping[str, Tensor], supernet: SuperNet) -> Tensor:
        scores = []
        for part in (part for part in group.slices if part.reads):
            weight = strength(supernet.units(group, part)) if self.weighted else 1.0
            scores.append((sums[part.module].unflatten(0, (-1, part.unit_size)) * weight).sum(1))
        return sum(scores[1:], start=scores[0]).sqrt().cpu()


def _check_readers(supernet: SuperNet) -> None:
    """Raises: TopologyError where a group's units are the input of no module: experts, and the neurons inside them."""
    for group in supernet.topology.groups:
        for part in (part for part in group.slices if part.carries):
            if part.role == "hold" or supernet.model.get_parameter(part.parameter).dim() > 2:
                raise TopologyError(
                    f"activation_norm cannot see the units of {group.name!r}, which lie inside stacked experts: "
                    "use first_order or magnitude"
                )


def _adder(total: Tensor, mask: list[Tensor]) -> Callable[..., Any]:
    """Adds the squares of a module's input to `total`, Float[Tensor, "columns"], over the tokens that are not padding."""

    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        values = args[0]
        for index, example in enumerate(values):  # an example at a time: the squares stay small
            squares = example.float().square()
            is_masked = bool(mask) and values.shape[:2] == mask[0].shape
            total.add_(mask[0][index] @ squares if is_masked else squares.reshape(-1, len(total)).sum(0))

    return hook
