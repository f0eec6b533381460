"""Helpers that describe model families: slices read off a model's own layers, names, and example inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from slimformer.errors import TopologyError, WorkloadError
from slimformer.supernet.outputs import Batch
from slimformer.supernet.topology import Attribute, Slice

if TYPE_CHECKING:
    from torch import nn

LEAST_STREAM = 8
"""The narrowest residual stream: a norm's output over one entry says nothing, over two only which is larger."""


def outputs(model: nn.Module, module: str, unit_size: int = 1, starts: Iterable[int] = (0,)) -> tuple[Slice, ...]:
    """The slices that units write in a linear layer: the rows of an `nn.Linear`, the columns of GPT-2's `Conv1D`, and the bias if any.

    starts: where each part of a fused layer begins, for example `(0, h, 2 * h)` for query, key and value.
    """
    layer: Any = model.get_submodule(module)
    dim = 1 if _is_transposed(layer) else 0
    weights = tuple(Slice(f"{module}.weight", dim, unit_size, start, "writes") for start in starts)
    has_bias = layer.bias is not None
    return (*weights, *(Slice(f"{module}.bias", 0, unit_size, start) for start in starts if has_bias))


def inputs(model: nn.Module, module: str, unit_size: int = 1) -> tuple[Slice, ...]:
    """The slices that read units in a linear layer: the columns of an `nn.Linear`, the rows of GPT-2's `Conv1D`."""
    dim: Literal[0, 1] = 0 if _is_transposed(model.get_submodule(module)) else 1
    return (Slice(f"{module}.weight", dim, unit_size, 0, "reads"),)


def writes(model: nn.Module, module: str, number: int, parts: int = 1) -> tuple[Slice, ...]:
    """The slices that `number` units write in a linear layer, an equal share each of every one of its equal parts.

    parts: 3 for query, key and value in one layer, one after the other; 2 for gate and up.
    """
    layer: Any = model.get_submodule(module)
    width = layer.weight.shape[1 if _is_transposed(layer) else 0] // parts
    return outputs(model, module, width // number, range(0, parts * width, width))


def reads(model: nn.Module, module: str, number: int) -> tuple[Slice, ...]:
    """The slices that read `number` units in a linear layer: an equal share of its inputs for each."""
    return inputs(model, module, in_features(model, module) // number)


def in_features(model: nn.Module, module: str) -> int:
    """The number of inputs of a linear layer."""
    layer: Any = model.get_submodule(module)
    return int(layer.weight.shape[0 if _is_transposed(layer) else 1])


def adds(model: nn.Module, module: str) -> tuple[Slice, ...]:
    """The slices that a module adds to the residual stream, an entry for each unit: a linear layer's outputs or a table's columns."""
    layer: Any = model.get_submodule(module)
    dim = 0 if is_linear(layer) and not _is_transposed(layer) else 1
    has_bias = getattr(layer, "bias", None) is not None
    return (Slice(f"{module}.weight", dim, 1, 0, "adds"), *([Slice(f"{module}.bias", 0, 1, 0, "adds")] if has_bias else []))


def norms(model: nn.Module, module: str) -> tuple[Slice, ...]:
    """The parameters of a norm over the residual stream, an entry for each unit."""
    return tuple(Slice(f"{module}.{name}", 0, 1, 0, "norm") for name, _ in model.get_submodule(module).named_parameters())


def entries(model: nn.Module, parameter: str, dim: int, number: int, parts: int = 1) -> tuple[Slice, ...]:
    """The entries of `number` units in a parameter of another kind, as a table or a scale: an equal share of each part."""
    width = model.get_parameter(parameter).shape[dim] // parts
    return tuple(Slice(parameter, dim, width // number, start, "neither") for start in range(0, parts * width, width))


def counts(model: nn.Module, module: str, number: int, *names: str) -> tuple[Attribute, ...]:
    """Numbers that a module keeps, or its configuration ("config.num_attention_heads"), and that are multiples of `number`."""
    owner = model.get_submodule(module)
    return tuple(Attribute(module, name, attrgetter(name)(owner) // number) for name in names)


def is_linear(module: nn.Module) -> bool:
    """Whether a module multiplies its input by a matrix of inputs and outputs: `nn.Linear`, and GPT-2's `Conv1D`."""
    from torch import nn

    return isinstance(module, nn.Linear) or _is_transposed(module)


def _is_transposed(layer: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


def type_of(model: nn.Module) -> str:
    """The `model_type` of a transformers model, "" of any other."""
    return str(getattr(getattr(model, "config", None), "model_type", ""))


def has_modules(model: nn.Module, path: str, names: Iterable[str] = ()) -> bool:
    """Whether a model has a list of blocks at a path, and each block a module of each name: what a topology assumes."""
    try:
        blocks = [block for _, block in model.get_submodule(path).named_children()]
        return bool(blocks) and all(block.get_submodule(name) is not None for block in blocks for name in names)
    except AttributeError:
        return False


def has_settings(model: nn.Module, settings: Mapping[str, bool]) -> bool:
    """Whether a model's configuration has the given switches; one that it does not name is not compared."""
    config = getattr(model, "config", None)
    return all(getattr(config, name, value) == value for name, value in settings.items())


def prefix_of(model: Any) -> str:
    """The prefix of the names in a transformers model's body: "bert." in a model with a head, "" in a bare body."""
    return f"{model.base_model_prefix}." if hasattr(model, model.base_model_prefix) else ""


def check_stream_stays_inside(model: Any) -> None:
    """Raises: TopologyError for a bare body: it returns its residual stream, whose units a rewiring would move."""
    if not prefix_of(model):
        raise TopologyError(
            f"{type(model).__name__} returns its residual stream, so that the axis hidden is not elastic: take a model with a head"
        )


def image_example(name: str, shape: tuple[int, int, int, int], model: nn.Module) -> Batch:
    """Images of zeros in the model's own number type, as its argument `name`; shape: batch, channels, height, width."""
    import torch

    return {name: torch.zeros(shape, dtype=next(model.parameters()).dtype)}


def text_example(batch_size: int, length: int, longest: int) -> Batch:
    """Token ids and a mask without padding.

    Raises: WorkloadError for more tokens than the model takes.
    """
    import torch

    if length > longest:
        raise WorkloadError(
            f"the model takes at most {longest} tokens, not {length}: lower task.max_length for examples, "
            "evaluation.workload.length (or --length) for costs"
        )
    ids = torch.full((batch_size, length), 5)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
