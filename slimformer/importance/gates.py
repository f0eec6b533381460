"""Gates: a factor of one on every unit, whose gradient is the change in loss if the unit were removed, to first order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from slimformer.importance.base import writers
from slimformer.supernet.topology import Slice, Topology

GateKey = tuple[str, str]
"""A group's name and the place of the gate in it."""


class UnitGate(torch.autograd.Function):
    """`values * gate` for a gate that is all ones: nothing is multiplied and no product is stored.

    values: Float[Tensor, "batch ... units*unit_size"]; gate: Float[Tensor, "units"].
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        ctx.units, ctx.dtype = len(gate), gate.dtype
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (values,), (gradient,) = ctx.saved_tensors, gradients
        columns = torch.zeros(values.shape[-1], device=values.device, dtype=ctx.dtype)
        for one, other in zip(values, gradient, strict=True):  # an example at a time: the product stays small
            columns += (one * other).reshape(-1, len(columns)).sum(0)
        return gradient, columns.unflatten(0, (ctx.units, -1)).sum(1)


@contextmanager
def gated(network: nn.Module, topology: Topology) -> Iterator[dict[GateKey, Tensor]]:
    """Put a gate on every unit of a full-size network while the context lasts.

    Units are gated where they are read, and also where they are written if a single module writes them. Experts, and the
    neurons inside them, are the input of no module: there the gate is a factor of their weights.
    Yields: the gates by (group, place), each Float[Tensor, "units"] and requiring gradients.
    """
    weight = next(network.parameters())
    dtype = torch.promote_types(weight.dtype, torch.float32)
    gates: dict[GateKey, Tensor] = {}
    on_weights: dict[str, list[tuple[Slice, Tensor]]] = defaultdict(list)
    with ExitStack() as hooks:
        for group in topology.groups:
            for part in (part for part in group.slices if part.carries):
                gate = gates[group.name, f"into {part.module}"] = _open_gate(group.num_units, weight.device, dtype)
                if part.role == "hold" or network.get_parameter(part.parameter).dim() > 2:
                    on_weights[part.parameter].append((part, gate))
                else:
                    hooks.callback(network.get_submodule(part.module).register_forward_pre_hook(_input_gate(gate)).remove)
            written = writers(group)
            if len(written) == 1:
                module = written[0][0]
                gate = gates[group.name, f"out of {module}"] = _open_gate(group.num_units, weight.device, dtype)
                hooks.callback(network.get_submodule(module).register_forward_hook(_output_gate(gate)).remove)
        for parameter, parts in on_weights.items():
            module, _, leaf = parameter.rpartition(".")
            owner = network.get_submodule(module)
            parametrize.register_parametrization(owner, leaf, _WeightGate(parts), unsafe=True)
            hooks.callback(parametrize.remove_parametrizations, owner, leaf, leave_parametrized=False)
        yield gates


class _WeightGate(nn.Module):
    """A weight times the gates of the units that it carries, each along its dimension, for `torch.nn.utils.parametrize`."""

    def __init__(self, parts: Sequence[tuple[Slice, Tensor]]) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, weight: Tensor) -> Tensor:
        for part, gate in self.parts:
            shape = [-1 if dim == part.dim else 1 for dim in range(weight.dim())]
            weight = weight * gate.to(weight.dtype).repeat_interleave(part.unit_size).view(shape)
        return weight


def _open_gate(units: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.ones(units, device=device, dtype=dtype, requires_grad=True)


def _input_gate(gate: Tensor) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (UnitGate.apply(args[0], gate), *args[1:])

    return hook


def _output_gate(gate: Tensor) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return UnitGate.apply(output, gate)

    return hook
