"""A full-size model that computes what one of its sub-networks computes: other units masked, other blocks skipped."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from slimformer.supernet.resize import follow_shapes_
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Slice, Topology


@contextmanager
def masked(model: nn.Module, topology: Topology, spec: SubnetSpec) -> Iterator[None]:
    """Meanwhile nothing reads the units outside a spec in a full-size model, whose weights are zero there, no router chooses
    them, and, by hooks, its dropped blocks do nothing.
    """
    with ExitStack() as hooks:
        rows: dict[int, int] = {}
        for name, units in spec.units.items():
            for part in topology.by_name[name].slices:
                weight = model.get_parameter(part.parameter)
                if part.role == "choose":
                    rows[id(weight)] = units * part.unit_size
                elif part.reads:
                    hooks.enter_context(_zeroed(weight, part, units * part.unit_size))
            for module in {part.module for part in topology.by_name[name].slices if part.role == "norm"}:
                norm = model.get_submodule(module)
                hooks.callback(norm.register_forward_hook(_narrow_norm(norm, units)).remove)
        hooks.enter_context(_Chosen(rows))
        for stack in topology.stacks:
            for block in set(range(stack.num_blocks)) - set(spec.blocks[stack.name]):
                skipped = model.get_submodule(f"{stack.path}.{block}")
                hooks.callback(skipped.register_forward_hook(_pass_by, with_kwargs=True).remove)
        yield


@contextmanager
def _zeroed(weight: Tensor, part: Slice, size: int) -> Iterator[None]:
    """Meanwhile a part of a weight, which spans its dimension, is zero behind its first `size` entries."""
    tail = weight.detach().narrow(part.dim, size, weight.shape[part.dim] - size)
    before = tail.clone()
    tail.zero_()
    try:
        yield
    finally:
        tail.copy_(before)


def _narrow_norm(norm: nn.Module, units: int) -> Callable[..., Tensor]:
    """A hook that lets a norm see its input's first `units` entries alone, as in a model made so narrow; the others are zero."""
    small = copy.deepcopy(norm)
    for parameter in small.parameters():
        parameter.data = parameter.data[:units]
    follow_shapes_(small)

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return nn.functional.pad(small(args[0][..., :units]), (0, output.shape[-1] - units))

    return hook


class _Chosen(TorchFunctionMode):
    """Meanwhile linear layers with one of the given weights, by its id, give minus infinity behind their first outputs."""

    def __init__(self, rows: Mapping[int, int]) -> None:
        super().__init__()
        self.rows = rows

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        if func is nn.functional.linear:
            rows = self.rows.get(id(args[1] if len(args) > 1 else given["weight"]))
            if rows is not None:
                result[..., rows:] = -torch.inf
        return result


def _pass_by(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
    stream = next(itertools.chain(args, kwargs.values()))
    return (stream, *output[1:]) if isinstance(output, tuple) else stream
