"""Run single blocks of a model on recorded inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from inspect import signature

import torch
from torch import Tensor, nn

from slimformer.supernet.outputs import Batch, to_device, without_labels


class Reached(Exception):
    """Ends a forward pass where nothing behind is needed."""


@dataclass(frozen=True)
class BlockCall:
    """The inputs of one block in one forward pass.

    stream: Float[Tensor, "batch tokens hidden"], the residual stream that enters. keyword: the argument by which it is passed,
    "" if by position. args, kwargs: the other arguments.
    """

    stream: Tensor
    keyword: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]

    def run(self, block: nn.Module) -> Tensor:
        """The stream behind the block."""
        if self.keyword:
            return stream_of(block(*self.args, **{self.keyword: self.stream, **self.kwargs}))
        return stream_of(block(self.stream, *self.args, **self.kwargs))

    def on(self, stream: Tensor) -> BlockCall:
        """The same call with another stream."""
        return replace(self, stream=stream)


def stream_of(output: object) -> Tensor:
    """The residual stream in a block's output: the output, or its first part."""
    found = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(found, Tensor):
        raise TypeError(f"a block returned {type(found).__name__} where the residual stream was expected")
    return found


def first_tensor(args: Sequence[object], kwargs: Mapping[str, object]) -> Tensor | None:
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)


def call_of(args: tuple[object, ...], kwargs: Mapping[str, object]) -> BlockCall:
    """The call that a forward pre-hook of a block saw."""
    if args and isinstance(args[0], Tensor):
        return BlockCall(args[0], "", tuple(args[1:]), dict(kwargs))
    keyword = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
    rest = {name: value for name, value in kwargs.items() if name != keyword}
    return BlockCall(kwargs[keyword], keyword, tuple(args), rest)  # type: ignore[arg-type]


def inputs_of(model: nn.Module, batch: Batch) -> dict[str, object]:
    """The arguments of a model's forward for a batch: no labels, and no cache where the model could keep one."""
    device = next(model.parameters()).device
    inputs: dict[str, object] = dict(without_labels(to_device(batch, device)))
    if "use_cache" in signature(model.forward).parameters:
        inputs["use_cache"] = False
    return inputs


def record_calls(model: nn.Module, path: str, batches: Sequence[Batch]) -> list[list[BlockCall]]:
    """The call of every block of a stack, by batch and block; the pass ends behind the last block.

    Arguments that the blocks share (masks, positions) are kept once.
    """
    blocks = list(model.get_submodule(path).children())
    recorded = []
    for batch in batches:
        calls: list[BlockCall] = []

        def enter(module: nn.Module, args: tuple, kwargs: dict, calls: list[BlockCall] = calls) -> None:
            calls.append(call_of(args, kwargs))

        def leave(module: nn.Module, args: tuple, output: object) -> None:
            raise Reached

        with ExitStack() as hooks, torch.no_grad():
            for block in blocks:
                hooks.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
            hooks.callback(blocks[-1].register_forward_hook(leave).remove)
            with suppress(Reached):
                model(**inputs_of(model, batch))
        recorded.append(calls)
    return recorded
