"""Check that a saved sub-network loads to the same function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from slimformer.errors import ExportError, first_line
from slimformer.supernet.outputs import Batch

LENGTHS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask")
"""The inputs whose last dimension is a length that a caller may choose."""


def check_same(model: nn.Module, loaded: nn.Module, example: Batch) -> None:
    """Check that a loaded model returns what a sub-network returns, at two input shapes, and holds the same tensors.

    Raises: ExportError naming an output or tensor that differs, or where the sub-network does not run.
    """
    share_precise_buffers_(model, loaded)
    for number, batch in enumerate(two_shapes(model, example)):
        try:
            wanted = run(model, batch)
        except (RuntimeError, ValueError, IndexError) as error:
            if number:  # not every model takes another length
                continue
            raise _stopped(error) from error
        try:
            found = run(loaded, batch)
        except (RuntimeError, ValueError, IndexError) as error:
            raise _stopped(error) from error
        different = difference(wanted, found)
        if different:
            raise ExportError(f"the exported model's {different}; nothing was written")
    different = difference(model.state_dict(), loaded.state_dict(), tolerance=0)
    if different:
        raise ExportError(f"the exported model's {different}; nothing was written")


def _stopped(error: Exception) -> ExportError:
    """A kernel may refuse sizes: that of stacked experts takes those that fill 16 bytes."""
    return ExportError(f"the exported model does not run: {first_line(error)}; nothing was written")


def run(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Every tensor that a model returns, by name."""
    with torch.no_grad():
        return dict(named_tensors(model(**batch)))


def named_tensors(value: object, name: str = "", seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, Tensor]]:
    """Every tensor inside whatever a model returns: mappings, sequences, dataclasses and other objects, as caches are."""
    if isinstance(value, Tensor):
        yield name or "output", value
        return
    if isinstance(value, nn.Module | str | bytes | type) or id(value) in seen:
        return
    members: dict[str, object] = {}
    if isinstance(value, Mapping):
        members = {str(key): member for key, member in value.items()}
    elif isinstance(value, list | tuple | set):
        members = {str(index): member for index, member in enumerate(value)}
    elif is_dataclass(value):
        members = {field.name: getattr(value, field.name, None) for field in fields(value)}
    elif hasattr(value, "__dict__"):
        members = vars(value)
    for key, member in members.items():
        yield from named_tensors(member, f"{name}.{key}" if name else key, seen | {id(value)})


def difference(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], tolerance: float | None = None) -> str:
    """The first of the named tensors that differs, in words; "" where all are the same.

    tolerance: as a fraction of the largest wanted number; by default float error of the number type. Integers, infinities and
        NaN must be the same.
    """
    if set(wanted) != set(found):
        return f"tensors differ in name: {', '.join(sorted(set(wanted) ^ set(found))[:3])}"
    for name, one in wanted.items():
        other = found[name]
        if one.shape != other.shape:
            return f"{name} differ in shape: {tuple(other.shape)}, not {tuple(one.shape)}"
        off = _distance(one, other)
        allowed = 0.0 if not one.is_floating_point() else tolerance
        if not off <= (max(1e-5, 4 * torch.finfo(one.dtype).eps) if allowed is None else allowed):
            return f"{name} differ by {off:.2g} of the largest number"
    return ""


def _distance(one: Tensor, other: Tensor) -> float:
    if torch.equal(one, other):
        return 0.0
    if not one.is_floating_point():
        return float("inf")
    one, other = one.double(), other.double()
    finite = one.isfinite()
    if not torch.equal(one[~finite].nan_to_num(7.0), other[~finite].nan_to_num(7.0)) or not other[finite].isfinite().all():
        return float("inf")
    if not finite.any():
        return 0.0
    largest = one[finite].abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((one[finite] - other[finite]).abs().max() / largest)


def two_shapes(model: nn.Module, example: Batch) -> list[dict[str, Tensor]]:
    """An example batch, and one with another number of examples and, where it has tokens, of another length.

    Token ids that are all the same, and floating-point inputs that are, become random ones: they would miss most of a model.
    """
    generator = Generator().manual_seed(0)
    first = {name: _varied(name, tensor, model, generator) for name, tensor in example.items()}
    second = first
    if len({len(tensor) for tensor in first.values()}) == 1:
        second = {name: torch.cat([tensor, tensor[:1]]) for name, tensor in first.items()}
    shorter = {}
    for name, tensor in second.items():
        is_text = name in LENGTHS and tensor.dim() == 2
        shorter[name] = tensor[:, : max(1, tensor.shape[1] - tensor.shape[1] // 3)] if is_text else tensor
    return [first, shorter] if set(first) & set(LENGTHS) else [first, second]


def _varied(name: str, tensor: Tensor, model: nn.Module, generator: Generator) -> Tensor:
    if not tensor.numel() or not bool((tensor == tensor.flatten()[0]).all()):
        return tensor
    if tensor.is_floating_point() and "mask" not in name:
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
    tables = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    if name.endswith("input_ids") and tables:
        return torch.randint(_vocabulary(model, tables), tensor.shape, generator=generator).to(tensor.dtype)
    return tensor


def _vocabulary(model: nn.Module, tables: list[int]) -> int:
    """How many token ids are sure to be in a model's table."""
    config: Any = getattr(model, "config", None)
    size = getattr(config.get_text_config(), "vocab_size", None) if hasattr(config, "get_text_config") else None
    return int(size or min(tables))


def share_precise_buffers_(model: nn.Module, loaded: nn.Module) -> None:
    """Give a model the loaded one's buffers that no file holds, where they differ in number type.

    A model that was cast as a whole has its rotary frequencies rounded; loading computes them anew.
    """
    modules = dict(loaded.named_modules())
    for name, module in model.named_modules():
        for key in module._non_persistent_buffers_set:
            own, other = module._buffers.get(key), modules[name]._buffers.get(key) if name in modules else None
            if own is not None and other is not None and own.shape == other.shape and own.dtype != other.dtype:
                module._buffers[key] = other.clone()
