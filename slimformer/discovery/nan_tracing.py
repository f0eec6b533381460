"""Follows numbers through a model by poisoning them: NaN passes through every operation that reads it, and through no other.

That shows which inputs of a linear layer a weight's row can reach, in any code that runs: no graph has to be captured and no
operation needs a rule, be it a reshape, an attention kernel or a split of a fused layer.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from slimformer.backbones.layers import is_linear

Reached = Mapping[str, Tensor]
"""Linear layer -> Bool[Tensor, "columns"], the entries of its input's last dimension that hold a poisoned number."""


@dataclass(frozen=True)
class Source:
    """One dimension of a tensor that enters a computation: of a parameter, a buffer or an argument."""

    kind: Literal["parameter", "buffer", "argument"]
    name: str
    dim: int
    size: int
    is_matrix: bool


class Recording(nn.Module):
    """A module with the arguments of one call, so that the call can be repeated: `recording()`.

    The module's own parameters are called "block...." here.
    """

    def __init__(self, block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.block = block
        self.train(block.training)
        leaves, self.form = pytree.tree_flatten((args, dict(kwargs)))
        self.leaves = [leaf.detach().contiguous().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        names = list(inspect.signature(block.forward).parameters)
        paths = [path for path, _ in pytree.tree_flatten_with_path((args, dict(kwargs)))[0]]
        self.names = [_argument(path, names) for path in paths]

    def forward(self) -> Any:
        args, kwargs = pytree.tree_unflatten(self.leaves, self.form)
        return self.block(*args, **kwargs)


class Tracer:
    """Repeats a recorded call with some numbers poisoned. The recording is left as it was.

    Raises: ValueError where the call gives numbers that are not finite, or cannot be repeated.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.tensors = _tensors(recording)
        clean = self._run()
        if any(bool(columns.any()) for columns in clean.values()):
            raise ValueError("it computes with numbers that are not finite")
        self.columns = {name: len(columns) for name, columns in clean.items()}

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        return tuple(
            Source(kind, name, dim, size, kind == "parameter" and tensor.dim() > 1)
            for (kind, name), tensor in self.tensors.items()
            for dim, size in enumerate(tensor.shape)
            if size > 1
        )

    def reached(self, source: Source, start: int, length: int) -> Reached:
        """What is poisoned in the inputs of linear layers if the source's entries `start ... start + length - 1` are."""
        tensor = self.tensors[source.kind, source.name].detach()
        part = tensor.narrow(source.dim, start, length)
        before = part.clone()
        part.fill_(float("nan"))
        try:
            return self._run()
        finally:
            part.copy_(before)

    def _run(self) -> Reached:
        found: dict[str, Tensor] = {}

        def watch(name: str) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
                if name not in found and args and isinstance(args[0], Tensor):  # a later call has mixed everything already
                    found[name] = args[0].isnan().flatten(0, -2).any(0)

            return hook

        # The flash kernel takes NaN for a masked score.
        with ExitStack() as hooks, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            for name, module in self.recording.block.named_modules():
                if is_linear(module):
                    hooks.callback(module.register_forward_pre_hook(watch(name)).remove)
            try:
                self.recording()
            except Exception as error:  # a stranger's code: anything can happen
                raise ValueError(f"it cannot be run with poisoned numbers: {type(error).__name__}: {error}") from error
        return found


def _tensors(recording: Recording) -> dict[tuple[Literal["parameter", "buffer", "argument"], str], Tensor]:
    """Every floating-point tensor that enters the call, by kind and name; parameters are named as in the block."""
    found: dict[tuple[Literal["parameter", "buffer", "argument"], str], Tensor] = {}
    for name, parameter in recording.block.named_parameters():
        found["parameter", name] = parameter
    for name, buffer in recording.block.named_buffers():
        found["buffer", name] = buffer
    for name, leaf in zip(recording.names, recording.leaves, strict=True):
        if isinstance(leaf, Tensor):
            found["argument", name] = leaf
    return {key: tensor for key, tensor in found.items() if tensor.is_floating_point() and tensor.dim()}


def _argument(path: tuple[Any, ...], names: list[str]) -> str:
    """What an argument is called in the signature, with its place where it is inside a tuple: "position_embeddings.0"."""
    keys = [str(getattr(key, "idx", getattr(key, "key", key))) for key in path]
    is_positional, first, rest = keys[0] == "0", keys[1], keys[2:]
    name = names[int(first)] if is_positional and int(first) < len(names) else first
    return ".".join([name, *rest])
